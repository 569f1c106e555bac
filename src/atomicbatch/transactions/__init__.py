"""
One adapter per database library; what unmodified handlers see.

    contract.py  the contract in words, and what a driver's exception comes to under it
    sqlalchemy/  handlers that use SQLAlchemy, unmodified
"""
