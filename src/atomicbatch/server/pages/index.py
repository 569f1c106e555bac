"""Index: what is served and how to send a first batch, for people; a list for programs."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from atomicbatch.limits import Limits
from atomicbatch.openapi.batch_path import BOUNDARY, example_batch
from atomicbatch.server.pages.openapi_batch import example_calls, example_http_file
from atomicbatch.server.schema.tables import Schema, Table
from atomicbatch.server.values.codec import encode_json

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5a6475; --line: #d9dee7;
  --paper: #fff; --shade: #f4f6f9; --link: #0b57b0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #a3adbd; --line: #333c4a;
  --paper: #12161d; --shade: #1b212b; --link: #7db4ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main, footer { max-width: 58rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: 1.2rem;
  border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 44rem; }
a { color: var(--link); }
.soft { color: var(--soft); }
code, pre { font: .875rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px;
  padding: .9rem 1rem; overflow-x: auto; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--link); }
dl { margin: 0; }
dt { margin-top: .9rem; font-weight: 600; overflow-wrap: anywhere; }
dd { margin: .1rem 0 0; overflow-wrap: anywhere; }
.tag { font-weight: 400; font-size: .8rem; color: var(--soft); border: 1px solid var(--line);
  border-radius: 4px; padding: 0 .35rem; margin-left: .4rem; }
.key { font-weight: 600; }
nav ul { list-style: none; padding: 0; margin: .8rem 0 0; display: flex; flex-wrap: wrap;
  gap: .3rem 1.2rem; }
footer { padding: 2rem 1.25rem 3rem; font-size: .875rem; }
"""

_NOTHING = "<p>The database has no tables yet. Make some, then load this page again.</p>"


def index_page(
    schema: Schema,
    *,
    base_path: str,
    batch_path: str,
    address: str,
    limits: Limits,
    read_only: bool,
    version: str,
) -> bytes:
    """The page at ``/``: one self-contained HTML document, every name escaped."""
    tables = "".join(_table(table, base_path) for table in schema.tables.values())
    body = example_batch(example_calls(schema, base_path, read_only=read_only))
    command = _command(address + batch_path, body)
    http_file = example_http_file(schema, base_path, address, read_only=read_only)
    mode = " The server is read-only: it takes GET and HEAD." if read_only else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>atomicbatch: {escape(schema.database)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>atomicbatch</h1>
<p>Serving <code>{escape(schema.database)}</code> as a REST API in which many calls can run in
one transaction: all of them take effect, or none does.{mode}</p>
<nav aria-label="Documents"><ul>
<li><a href="/openapi.json">OpenAPI document</a></li>
<li><a href="{escape(base_path)}">List of resources</a></li>
<li><a href="/healthz">Health</a></li>
<li><a href="/readyz">Readiness</a></li>
</ul></nav>
</header>
<main>
<section aria-labelledby="first">
<h2 id="first">Send a first batch</h2>
<p>Each part is a complete HTTP request, with a path only. The calls run in order; the first that
fails undoes them all. The header <code>Batch-Outcome</code> of the answer says
<code>committed</code> or <code>rolled-back</code>.</p>
{_block("A command that sends a batch", command)}
<details>
<summary>The same as an <code>.http</code> file</summary>
<p>Editors know such files too. <code>atomicbatch send first.http</code> sends all its requests as
one batch.</p>
{_block("The batch as an .http file", http_file)}
</details>
<p class="soft">At most {limits.max_calls} calls and {_size(limits.max_body_bytes)}, within
{limits.timeout_seconds:g} seconds.</p>
</section>
<section aria-labelledby="served">
<h2 id="served">What is served</h2>
{f"<dl>{tables}</dl>" if tables else _NOTHING}
</section>
</main>
<footer class="soft">atomicbatch {escape(version)}</footer>
</body>
</html>
""".encode()


def _block(label: str, text: str) -> str:
    # It scrolls sideways, so the keyboard must reach it and a screen reader must name it.
    return (
        f'<pre tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<code>{escape(text.rstrip())}</code></pre>"
    )


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count % (1 << 20) == 0 else f"{count} bytes"


def _table(table: Table, base_path: str) -> str:
    path = f"{base_path}/{quote(table.name, safe='')}"
    tag = f'<span class="tag">read-only: {escape(table.read_only_why)}</span>'
    columns = ", ".join(
        f"<code{' class=key' if column in table.key else ''}>{escape(column.name)}</code>"
        f' <span class="soft">{escape(column.sql_type.lower() or column.kind.value)}'
        f"{' key' if column in table.key else ''}</span>"
        for column in table.columns
    )
    return (
        f'<dt><a href="{escape(path)}?limit=20">{escape(table.name)}</a>'
        f"{tag if table.read_only else ''}</dt><dd>{columns}</dd>\n"
    )


def _command(url: str, body: str) -> str:
    return (
        f"curl -i {url} \\\n"
        f"  -H 'Content-Type: multipart/mixed; boundary={BOUNDARY}' \\\n"
        f"  --data-binary @- <<'END'\n{body}END"
    )


def json_index(schema: Schema, *, base_path: str) -> bytes:
    """The list of resources at ``/v1/api``."""
    return encode_json(
        [
            {
                "name": table.name,
                "href": f"{base_path}/{quote(table.name, safe='')}",
                "key": [column.name for column in table.key],
                "read_only": table.read_only,
            }
            for table in schema.tables.values()
        ]
    )
