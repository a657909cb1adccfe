"""The programs of docs/receiving.md that verify without a library, each in its language, on what the service signs."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.test_docs import blocks, run
from tests.support.distribution import missing
from webhook_grpc.domain.signing import SigningKey, signature_headers

SECRET, FREE_TEXT, OTHER = (
    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "your_secret_key",
    "whsec_" + "A" * 43 + "=",
)
BODY = '{"event":"job.completed","timestamp":1,"data":{"name":"任务"}}'
Headers = dict[str, str]

# Each calls the program of the document for every five arguments (secret, id, timestamp, signatures, body), and
# prints a word for each.
NODE = """
for (let at = 1; at < process.argv.length; at += 5) {
  const [secret, id, timestamp, signatures, body] = process.argv.slice(at, at + 5);
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures };
  console.log(isGenuine(secret, headers, Buffer.from(body)));
}
"""
GO = """
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	for given := os.Args[1:]; len(given) > 0; given = given[5:] {
		header := http.Header{}
		header.Set("webhook-id", given[1])
		header.Set("webhook-timestamp", given[2])
		header.Set("webhook-signature", given[3])
		fmt.Println(IsGenuine(given[0], header, []byte(given[4])))
	}
}
"""
JAVA = """
class Main {
    public static void main(String[] given) throws Exception {
        for (int at = 0; at < given.length; at += 5) {
            Map<String, String> headers = Map.of(
                "webhook-id", given[at + 1], "webhook-timestamp", given[at + 2], "webhook-signature", given[at + 3]);
            System.out.println(Receiver.isGenuine(given[at], headers, given[at + 4].getBytes(UTF_8)));
        }
    }
}
"""
PHP = """
foreach (array_chunk(array_slice($argv, 1), 5) as [$secret, $id, $timestamp, $signatures, $body]) {
    $headers = ['Webhook-Id' => $id, 'Webhook-Timestamp' => $timestamp, 'Webhook-Signature' => $signatures];
    echo is_genuine($secret, $headers, $body) ? 'true' : 'false', "\\n";
}
"""
RUBY = """
ARGV.each_slice(5) do |secret, id, timestamp, signatures, body|
  headers = { "webhook-id" => id, "webhook-timestamp" => timestamp, "webhook-signature" => signatures }
  puts genuine?(secret, headers, body.b)
end
"""


def node(program: str, _: Path) -> list[str | Path]:
    return ["node", "--input-type=module", "--eval", program + NODE, "--"]


def go(program: str, folder: Path) -> list[str | Path]:
    (folder / "go.mod").write_text("module receiver\n\ngo 1.24\n")
    (folder / "receiver.go").write_text(program.replace("package receiver", "package main"))
    (folder / "main.go").write_text(GO)
    return ["go", "run", "-C", folder, "."]


def java(program: str, folder: Path) -> list[str | Path]:
    imports, found, receiver = program.partition("class Receiver")
    (folder / "Main.java").write_text(imports + JAVA + found + receiver)  # the class that stands first is run
    return ["java", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", folder / "Main.java"]


def php(program: str, folder: Path) -> list[str | Path]:
    (folder / "receiver.php").write_text(program + PHP)
    return ["php", folder / "receiver.php"]


def ruby(program: str, folder: Path) -> list[str | Path]:
    (folder / "receiver.rb").write_text(program + RUBY)
    return ["ruby", folder / "receiver.rb"]


def signed(*secrets: str, age_seconds: int = 0) -> Headers:
    """Returns the headers of a request that these secrets sign, the newest first."""
    keys = [SigningKey(secret) for secret in secrets]
    return signature_headers(keys, "evt_1", int(time.time()) - age_seconds, BODY.encode())


def judged() -> list[tuple[bool, str, Headers, str]]:
    """Returns requests: whether they are genuine, the receiver's secret, their headers and their body."""
    genuine, rotated = signed(SECRET), signed(OTHER, SECRET)
    return [
        (True, SECRET, genuine, BODY),
        (True, FREE_TEXT, signed(FREE_TEXT), BODY),
        (True, SECRET, rotated, BODY),
        (True, OTHER, rotated, BODY),
        (False, SECRET, genuine, BODY + " "),
        (False, OTHER, genuine, BODY),
        (False, SECRET, {**genuine, "webhook-id": "evt_2"}, BODY),
        (False, SECRET, {**genuine, "webhook-signature": ""}, BODY),
        (False, SECRET, {**genuine, "webhook-signature": "v1,"}, BODY),
        (False, SECRET, {**genuine, "webhook-signature": genuine["webhook-signature"].removeprefix("v1,")}, BODY),
        (False, SECRET, {**genuine, "webhook-timestamp": "soon"}, BODY),
        (False, SECRET, {**genuine, "webhook-timestamp": ""}, BODY),
        (False, SECRET, signed(SECRET, age_seconds=600), BODY),
        (False, SECRET, signed(SECRET, age_seconds=-600), BODY),
    ]


LANGUAGES: dict[str, Callable[[str, Path], list[str | Path]]] = {
    "node": node, "gostandard": go, "java": java, "php": php, "ruby": ruby,
}  # fmt: skip


@pytest.mark.slow(3)
@pytest.mark.parametrize("name", LANGUAGES)
async def test_the_program_tells_genuine_from_forged_and_from_old(name: str, tmp_path: Path) -> None:
    command = LANGUAGES[name](blocks("docs/receiving.md", name), tmp_path)
    if shutil.which(str(command[0])) is None:
        if name in {"gostandard", "java"}:  # a toolchain that nobody installs for a test
            pytest.skip(f"{command[0]} is not installed")
        missing(str(command[0]), ".ci/packages")
    requests = judged()
    given = [
        part
        for _, secret, headers, body in requests
        for part in (
            secret,
            headers["webhook-id"],
            headers["webhook-timestamp"],
            headers["webhook-signature"],
            body,
        )
    ]
    said = await run(*command, *given, LC_ALL="C.UTF-8")
    words = re.findall(r"^(true|false)$", said, re.MULTILINE)
    assert [word == "true" for word in words] == [is_genuine for is_genuine, *_ in requests], said
