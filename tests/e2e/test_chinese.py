"""The Chinese pages say what the English ones and the source say: headings, commands, tables."""

from __future__ import annotations

import re

import psycopg
from psycopg.rows import tuple_row

from tests.e2e import test_specification
from tests.e2e.test_docs import blocks
from tests.support.process import ROOT
from webhook_grpc.domain.envelope import render_body

PAGE = "docs/zh-CN/specification.md"
BLOCK = re.compile(r"^(?:<!-- test: \w+ -->\n)?```\w+\n.*?^```$", re.DOTALL | re.MULTILINE)
HAN = re.compile(r"[\u4e00-\u9fff]")
COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


def text_of(path: str) -> str:
    return (ROOT / path).read_text()


def headings(text: str) -> list[str]:
    """Returns the levels of the headings, in order."""
    return re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE)


def links(text: str) -> set[str]:
    """Returns where the links of a text lead; pictures in Chinese stand for those in English."""
    found = re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text))
    return {re.sub(r"-zh-(\d+\.png)$", r"-en-\1", one) for one in found}


def parts(text: str) -> list[str]:
    """Returns the text between headings."""
    return re.split(r"^#+ .*$", BLOCK.sub("", text), flags=re.MULTILINE)[1:]


def test_the_chinese_readme_has_the_headings_the_commands_and_the_links_of_the_english_one() -> None:
    english, chinese = text_of("README.md"), text_of("README.zh-CN.md")
    assert headings(chinese) == headings(english)
    assert BLOCK.findall(chinese) == BLOCK.findall(english)
    assert links(chinese) - {"README.md", PAGE} == links(english) - {"README.zh-CN.md"}
    for number, (one, other) in enumerate(zip(parts(chinese), parts(english), strict=True)):
        assert HAN.search(one), number
        assert one.count("\n- ") == other.count("\n- "), number
        assert one.count("\n| ") == other.count("\n| "), number


def rows_below(heading: str) -> list[list[str]]:
    """Returns the cells in code of each row of the first table below a heading."""
    section = text_of(PAGE).partition(f"# {heading}\n")[2].partition("\n#")[0]
    return [re.findall(r"`([^`]+)`", row)[:2] for row in re.findall(r"^\| `.*$", section, re.MULTILINE)]


def test_the_tables_of_the_page_are_those_of_the_database(database_url: str) -> None:
    with psycopg.connect(database_url, row_factory=tuple_row) as connection:
        webhooks, logs = (dict(connection.execute(COLUMNS, [name])) for name in ("webhooks", "webhook_logs"))
        types = {name for (name,) in connection.execute("SELECT event_type FROM event_types WHERE built_in")}
    assert dict(rows_below("webhook_logs")) == logs
    assert [name for name, _ in rows_below("webhook_logs")] == list(logs)
    shown = dict(rows_below("webhooks"))
    assert len(shown) == 8
    assert shown == {name: webhooks[name] for name in shown}
    assert {name for name, *_ in rows_below("事件类型")} == types


def test_the_cases_of_the_page_are_those_of_the_tests() -> None:
    named = re.findall(r"^\| TC-(\d\d) \| .* \| `(\w+)` \|$", text_of(PAGE), re.MULTILINE)
    there = [name for name in vars(test_specification) if name.startswith("test_tc_")]
    assert [name for _, name in named] == there
    assert [name.split("_")[2] for name in there] == [number for number, _ in named]


def test_the_program_that_verifies_is_that_of_the_english_page() -> None:
    assert blocks(PAGE, "body") == blocks("docs/receiving.md", "body")


def test_the_body_of_the_page_is_what_the_service_sends() -> None:
    [body] = re.findall("```json\n(.*?)\n```", text_of(PAGE), re.DOTALL)
    data = b'{"job_id":"job-abc123","status":"completed","duration":3600}'
    sent, _ = render_body("job.completed", 1706256000, data)
    assert body.encode() == sent
