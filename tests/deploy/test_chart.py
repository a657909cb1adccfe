"""The Helm chart: what it renders is valid, agrees with the image and the service, and its probes are answered."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import yaml

from tests.support import slowness
from tests.support.full import in_full
from tests.support.ports import free_port
from tests.support.process import ROOT, Process, run
from webhook_grpc.domain import egress
from webhook_grpc.parent import running
from webhook_grpc.settings import PREFIX, Settings, unknown_variables

from .charts import (
    CHART,
    KUBERNETES,
    VALUES,
    helm,
    helm_path,
    of_kind,
    pods,
    rendered,
    service_pod,
    template,
    variables,
)

CUSTOM = {"ServiceMonitor"}  # resources of others than Kubernetes, which has no schema for them
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_wrong(values: str) -> None:
    ended = helm("lint", CHART, "--strict", "--quiet", f"--values={CHART}/ci/{values}.yaml")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.xdist_group("schemas")  # whose library takes more than a second to import
@pytest.mark.parametrize("version", in_full(KUBERNETES, short=KUBERNETES[-1:]))
@pytest.mark.parametrize("values", VALUES)
def test_kubernetes_knows_every_field(values: str, version: str) -> None:
    import kubernetes_validate

    found = set[str]()
    for document in (*rendered(values), *rendered(values, "--is-upgrade")):
        if document["kind"] in CUSTOM:
            with pytest.raises(kubernetes_validate.SchemaNotFoundError):
                kubernetes_validate.validate(document, version, strict=True)
        else:
            kubernetes_validate.validate(document, version, strict=True)
            found.add(document["kind"])
    assert found >= {"Deployment", "Service", "ServiceAccount"}


def test_everything_is_rendered_once_and_with_a_name_of_its_own() -> None:
    documents = rendered("everything")
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)
    assert {kind for kind, _ in names} == {
        *("Deployment", "HorizontalPodAutoscaler", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service"),
        *("ServiceAccount", "ServiceMonitor"),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "database"),
        (("--set=database.existingSecret=a",), "secretKeys"),
        (("--set=database.existingSecret=a,secretKeys.existingSecret=b,replica=3",), "replica"),
        (("--set=database.existingSecret=a,secretKeys.existingSecret=b,tls.grpcClientCa=true",), "tls"),
        (("--set=database.existingSecret=a,secretKeys.existingSecret=b,settings.WEBHOOK_PROCESSES=3",), "settings"),
        (("--set=database.existingSecret=a,secretKeys.existingSecret=b,metrics.port=8080",), "metrics"),
    ],
)
def test_values_that_can_not_be_meant_are_refused_by_name(arguments: tuple[str, ...], words: str) -> None:
    ended = template(CHART, *arguments)
    assert ended.returncode != 0
    assert "values don't meet the specifications of the schema" in ended.stderr
    assert words in ended.stderr.partition("specifications of the schema")[2]


async def status_of(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status


@pytest.mark.slow
async def test_the_variables_of_the_chart_start_the_service_and_each_probe_is_answered(
    database_url: str, tmp_path: Path
) -> None:
    pod = service_pod("minimal")
    [container] = pod["containers"]
    assert container["args"] == ["serve", "--processes", "1"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    here = {"grpc": 0, "http": 0, "metrics": free_port()}
    settings = {name: value for name, value in variables(pod).items() if "/" not in value}
    for name, port in ports.items():
        address = settings[f"{PREFIX}{name.upper()}_ADDRESS"]
        assert address == f"0.0.0.0:{port}"
        settings[f"{PREFIX}{name.upper()}_ADDRESS"] = f"127.0.0.1:{here[name]}"
    settings |= {"WEBHOOK_SHUTDOWN_DELAY_SECONDS": "0", "WEBHOOK_DATABASE_URL": database_url}
    process = await Process.start(tmp_path / "log", **settings)
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert probes["livenessProbe"]["path"] != probes["readinessProbe"]["path"], "one of them depends on the database"
    url = f"http://127.0.0.1:{here['metrics']}"
    async with aiohttp.ClientSession() as session:
        for probe in probes.values():
            async with slowness.timeout(20):
                while await status_of(session, url + probe["path"]) != 200:
                    await asyncio.sleep(0.05)  # on a busy machine a part may be late just now
        async with session.get(f"{url}/healthy") as answer:
            assert answer.status == 404
        async with session.get(f"{url}/metrics") as answer:
            [autoscaler] = of_kind(rendered("everything"), "HorizontalPodAutoscaler")
            [metric] = autoscaler["spec"]["metrics"]
            assert f"\n{metric['pods']['metric']['name']} " in await answer.text()
    assert "webhook-grpc: warning" not in (tmp_path / "log").read_text(), "of a variable or of plain text"
    assert await process.terminate() == 0


@pytest.mark.parametrize("values", VALUES)
def test_each_pod_is_as_restricted_as_can_be(values: str) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user
    for pod in pods(rendered(values)):
        [container] = pod["containers"]
        of_pod = pod["securityContext"]
        assert of_pod["runAsNonRoot"] is True
        chosen = (None, None) if values == "arbitrary-user" else (int(user[1]), int(user[2]))
        assert (of_pod.get("runAsUser"), of_pod.get("runAsGroup")) == chosen, "the user of the image"
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, (
            "a Service named `webhook` would bring variables that begin as ours do"
        )


@pytest.mark.parametrize("values", VALUES)
def test_variables_of_ours_are_settings_and_none_is_there_twice(values: str) -> None:
    for pod in pods(rendered(values)):
        [container] = pod["containers"]
        names = [one["name"] for one in container["env"]]
        assert unknown_variables(dict.fromkeys(names, "")) == []
        assert len(names) == len(set(names))


@pytest.mark.parametrize("values", VALUES)
def test_a_pod_may_end_as_slowly_as_its_processes(values: str) -> None:
    """A parent ends its children before Kubernetes kills all of them."""
    pod = service_pod(values)
    known = variables(pod)
    seconds = [float(known[f"WEBHOOK_{name}_SECONDS"]) for name in ("SHUTDOWN_DELAY", "DRAIN")]
    assert pod["terminationGracePeriodSeconds"] == sum(seconds) + running.STOP_SECONDS + 5


def test_what_the_chart_sets_itself_can_not_be_set_twice() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    refused = set(schema["properties"]["settings"]["propertyNames"]["not"]["enum"])
    own = {name for values in VALUES for name in variables(service_pod(values)) if name.startswith(PREFIX)}
    own -= set(yaml.safe_load((CHART / "ci" / "everything.yaml").read_text())["settings"])
    assert refused == {*own, "WEBHOOK_PROCESSES", "WEBHOOK_DATA_DIR"}
    assert refused <= {PREFIX + name.upper() for name in Settings.model_fields}


def test_requests_lead_to_no_network_that_the_service_itself_refuses() -> None:
    denied = {
        "0.0.0.0/0": [str(network) for network in egress.DENIED_IPV4],
        str(egress.GLOBAL_IPV6): [str(network) for network in egress.DENIED_IPV6],
    }
    for values in ("minimal", "everything"):
        [policy] = [one for one in policies(values) if one["metadata"]["name"] == "shop-webhook-grpc"]
        blocks = [to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule["to"] if "ipBlock" in to]
        assert {block["cidr"]: block["except"] for block in blocks if "except" in block} == denied
        assert policy["spec"]["policyTypes"] == ["Egress"]
    [dns, postgres, receivers] = policies("minimal")[0]["spec"]["egress"]
    assert dns["to"], "names are looked up within the cluster"
    assert [port["port"] for port in dns["ports"]] == [53, 53]
    assert postgres == {"to": [], "ports": [{"protocol": "TCP", "port": 5432}]}
    assert 5432 not in {port["port"] for port in receivers["ports"]}
    [migrate] = [one for one in policies("minimal") if one["metadata"]["name"].endswith("-migrate")]
    assert migrate["spec"]["egress"] == [dns, postgres]


def policies(values: str) -> list[Any]:
    return of_kind(rendered(values), "NetworkPolicy")


def test_migrations_run_before_pods_and_with_the_url_of_the_owner() -> None:
    upgrades = of_kind(rendered("minimal", "--is-upgrade"), "Job")
    [installing], [upgrading] = of_kind(rendered("minimal"), "Job"), upgrades
    hooks = [job["metadata"]["annotations"]["helm.sh/hook"] for job in (installing, upgrading)]
    assert hooks == ["pre-install,pre-upgrade"] * 2
    args = [job["spec"]["template"]["spec"]["containers"][0]["args"] for job in (installing, upgrading)]
    assert args == [["migrate"], ["migrate", "--before-deployment"]], "old pods run meanwhile"
    assert variables(next(pods((installing,)))) == {"WEBHOOK_DATABASE_URL": "webhook-database/WEBHOOK_DATABASE_URL"}
    before, after = of_kind(rendered("everything"), "Job")
    assert after["metadata"]["annotations"]["helm.sh/hook"] == "post-upgrade"
    args = after["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args == ["migrate", "--after-deployment"], "the last old pod may still drain"
    for job in (before, after):
        assert variables(next(pods((job,))))["WEBHOOK_DATABASE_URL"] == "webhook-owner/url"
    assert of_kind(rendered("arbitrary-user"), "Job") == []


def test_each_service_finds_the_pods_and_their_ports() -> None:
    for values in VALUES:
        [deployment] = of_kind(rendered(values), "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        ports = {port["name"] for port in service_pod(values)["containers"][0]["ports"]}
        services = of_kind(rendered(values), "Service")
        assert [service["spec"].get("clusterIP") for service in services] == [None, "None", "None"]
        for service in services:
            assert service["spec"]["selector"].items() <= labels.items()
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    [monitor] = of_kind(rendered("everything"), "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [one for one in of_kind(rendered("everything"), "Service") if wanted <= one["metadata"]["labels"].items()]
    assert [service["metadata"]["name"] for service in found] == ["shop-webhook-grpc-metrics"]


def test_what_guards_and_scales_pods_is_about_those_of_the_service() -> None:
    everything = rendered("everything")
    [deployment] = of_kind(everything, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [budget] = of_kind(everything, "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    [autoscaler] = of_kind(everything, "HorizontalPodAutoscaler")
    target = autoscaler["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    for values in VALUES:
        of_jobs = [job["spec"]["template"]["metadata"]["labels"] for job in of_kind(rendered(values), "Job")]
        for policy in policies(values):
            wanted = policy["spec"]["podSelector"]["matchLabels"].items()
            is_for_jobs = policy["metadata"]["name"].endswith("-migrate")
            assert [wanted <= one.items() for one in (labels, *of_jobs)] == [
                not is_for_jobs,
                *[is_for_jobs] * len(of_jobs),
            ]


def leaves(values: Any, path: str = "") -> set[str]:
    """The values by their paths, as far as the chart knows what is in them."""
    free = {"resources", "podSecurityContext", "containerSecurityContext", "migrate.resources"}
    if not isinstance(values, dict) or not values or path in free:
        return {path}
    inner = cast("dict[str, Any]", values)
    return {leaf for name, value in inner.items() for leaf in leaves(value, f"{path}.{name}" if path else name)}


def test_the_readme_has_every_value() -> None:
    text = (CHART / "README.md").read_text().partition("## Values")[2]
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(listed) == sorted(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.mark.slow
async def test_the_commands_of_the_document_install_the_chart() -> None:
    """As they stand there, with a kubectl that is played and a helm that sends nothing."""
    found = re.search(r"<!-- test: helm -->\n```sh\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    assert found
    played = 'kubectl() { echo "kubectl: $*"; }; helm() { shift; "$HELM" template --kube-version=1.37 "$@"; }; set -eu'
    path = {"HELM": helm_path(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    status, stdout, stderr = await run("bash", "-c", f"{played}\n{found[1]}", settings=path, cwd=ROOT)
    assert status == 0, stderr
    made = re.findall(r"^kubectl: create secret generic (\S+) .*?--from-literal=(\w+)=\S{20,}$", stdout, re.MULTILINE)
    documents = yaml.safe_load_all(stdout.partition("\n---\n")[2])
    [deployment] = [one for one in documents if one and one["kind"] == "Deployment"]
    wanted = variables(deployment["spec"]["template"]["spec"])
    assert {f"{secret}/{name}" for secret, name in made} == {wanted[name] for _, name in made}
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example/webhook-grpc:")
