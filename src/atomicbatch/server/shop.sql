-- A small tea shop: something realistic to send first batches to.
CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    name VARCHAR(80) NOT NULL,
    email VARCHAR(120) NOT NULL UNIQUE,
    city VARCHAR(60),
    credit NUMERIC(10, 2) NOT NULL DEFAULT 0 CHECK (credit >= 0)
);
CREATE TABLE products (
    id INTEGER PRIMARY KEY,
    sku VARCHAR(20) NOT NULL UNIQUE,
    name VARCHAR(80) NOT NULL,
    price NUMERIC(10, 2) NOT NULL CHECK (price >= 0),
    stock INTEGER NOT NULL DEFAULT 0 CHECK (stock >= 0)
);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    placed DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
    status VARCHAR(20) NOT NULL DEFAULT 'new'
        CHECK (status IN ('new', 'paid', 'sent', 'cancelled')),
    note TEXT
);
CREATE TABLE order_lines (
    order_id INTEGER NOT NULL REFERENCES orders (id),
    line INTEGER NOT NULL,
    product_id INTEGER NOT NULL REFERENCES products (id),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, line)
);
CREATE INDEX orders_of_customer ON orders (customer_id);
CREATE INDEX lines_of_product ON order_lines (product_id);
CREATE VIEW order_totals AS
SELECT o.id AS order_id, c.name AS customer, count(*) AS lines,
       round(sum(l.quantity * p.price), 2) AS total
FROM orders o
JOIN customers c ON c.id = o.customer_id
JOIN order_lines l ON l.order_id = o.id
JOIN products p ON p.id = l.product_id
GROUP BY o.id, c.name;

INSERT INTO customers (id, name, email, city, credit) VALUES
    (1, 'Ada Lovelace', 'ada@example.org', 'London', 120),
    (2, 'Grace Hopper', 'grace@example.org', 'New York', 80.5),
    (3, 'José Ñandú', 'jose@example.org', 'Asunción', 15),
    (4, '山田 花子', 'hanako@example.org', '東京', 60),
    (5, 'ليلى حداد', 'layla@example.org', 'بيروت', 42.75);
INSERT INTO products (id, sku, name, price, stock) VALUES
    (1, 'TEA-ASSAM', 'Assam, 100 g', 4.5, 40),
    (2, 'TEA-SENCHA', '煎茶 Sencha, 100 g', 7.2, 25),
    (3, 'TEA-EARL', 'Earl Grey, 100 g', 5, 30),
    (4, 'TEA-MATE', 'Yerba Maté, 500 g', 6.8, 12),
    (5, 'POT-IRON', 'Cast-iron pot, 0.8 l', 39.9, 5),
    (6, 'CUP-WHITE', 'White cup', 8, 60),
    (7, 'CUP-GLASS', 'Double-walled glass', 9.5, 18),
    (8, 'SIEVE', 'Sieve, stainless', 3.25, 33),
    (9, 'WHISK', '茶筅 Bamboo whisk', 14, 8),
    (10, 'TIN', 'Tin, 250 g', 2.75, 50);
INSERT INTO orders (id, customer_id, placed, status, note) VALUES
    (1, 1, '2026-11-02 09:15:00', 'sent', NULL),
    (2, 4, '2026-11-10 18:40:00', 'paid', 'ギフト包装'),
    (3, 2, '2026-11-21 12:05:30', 'new', NULL);
INSERT INTO order_lines (order_id, line, product_id, quantity) VALUES
    (1, 1, 1, 2), (1, 2, 8, 1),
    (2, 1, 2, 1), (2, 2, 9, 1), (2, 3, 6, 2),
    (3, 1, 5, 1);
