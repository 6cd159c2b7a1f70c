"""Shipped files pass; each mistake that costs money, work or safety gives its sentence."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from cluster import _commands, _fields, _finding
from cluster._fields import table
from cluster.validate import HERE, SHIPPED, check, main

ABSENT = object()
"""In place of a value: the field is taken out."""

Check = Callable[..., list[str]]


AWS, GCP, OWN = "aws.yaml", "gcp.yaml", "on-premise.yaml"
CLUSTER, JOB, STAGED = (
    f"kuberay/{name}.yaml" for name in ("raycluster", "rayjob", "rayjob-staged")
)
POLICY = "kuberay/networkpolicy.yaml"
KEY = "AKIA" + "ABCDEFGHIJKLMNOP"
TOKEN = "0123456789abcdef" * 4
POD = "spec/headGroupSpec/template/spec"
SPOT = "spec/workerGroupSpecs/0"
SPOT_POD = f"{SPOT}/template/spec"
JOBS_HEAD = "spec/rayClusterSpec/headGroupSpec/rayStartParams"
RULES = "spec/deletionStrategy/deletionRules"
START_HEAD = "ulimit -n 9; ray start --head --port=6379 --autoscaling-config=~/x"


@pytest.fixture
def findings_of(tmp_path: Path) -> Check:
    """Checks a shipped file after one change; the findings as sentences without the file."""

    def changed(name: str, path: str = "", value: Any = ABSENT, ready: bool = False) -> list[str]:
        documents = list(yaml.safe_load_all((HERE / name).read_text()))
        if path:
            _put(documents[0], [_part(part) for part in path.split("/")], value)
        file = tmp_path / Path(name).name
        # Anchors would tie fields together that are changed apart.
        file.write_text(yaml.dump_all(documents, Dumper=_Plain, sort_keys=False))
        return [str(each).removeprefix(f"{file}: ") for each in check(file, ready=ready)]

    return changed


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _part(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _put(document: Any, path: list[str | int], value: Any) -> None:
    for part in path[:-1]:
        document = document[part]
    if value is ABSENT:
        del document[path[-1]]
    else:
        document[path[-1]] = value


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_passes(name: str) -> None:
    assert check(HERE / name) == []


def test_every_cluster_file_that_lies_there_is_checked() -> None:
    others = {"fields.yaml"}
    there = {str(path.relative_to(HERE)) for path in HERE.rglob("*.yaml")}
    assert there - others == set(SHIPPED)


@pytest.mark.parametrize(
    ("name", "path", "value", "sentence"),
    [
        # what Ray's own schema sees
        (AWS, "idle_timeout_minute", 5, "did you mean 'idle_timeout_minutes'?"),
        (AWS, "max_workers", "16", "max_workers is '16'"),
        (AWS, "available_node_types/gpu-spot/min_worker", 0, "did you mean 'min_workers'?"),
        (AWS, "available_node_types/gpu-spot/resources/GPU", "one", "is not of type 'integer'"),
        (AWS, "head_node_type", "boss", "is refused by Ray"),
        (AWS, "available_node_types/gpu-spot/min_workers", 99, "is refused by Ray"),
        (AWS, "provider/type", "awz", "choose aws, gcp, local"),
        (AWS, "available_node_types", ABSENT, "describe the machines"),
        (OWN, "provider/worker_ips", ABSENT, "name the machines"),
        # machines that are never let go
        (AWS, "idle_timeout_minutes", ABSENT, "say when idle machines go"),
        (AWS, "idle_timeout_minutes", 600, "at most 30"),
        (GCP, "available_node_types/gpu-spot/min_workers", 1, "never scales down"),
        (AWS, "available_node_types/gpu-spot/max_workers", 17, "max_workers (16)"),
        (AWS, "available_node_types/gpu-spot/max_workers", ABSENT, "bound this kind"),
        (AWS, "max_workers", ABSENT, "bound what an hour can cost"),
        (AWS, "provider/cache_stopped_nodes", ABSENT, "disks go on costing"),
        # a head that works, and may vanish
        (AWS, "available_node_types/head/resources/CPU", 4, "is 4; write 0"),
        (AWS, "available_node_types/head/resources/GPU", ABSENT, "is left to Ray; write 0"),
        (OWN, "head_start_ray_commands/1", START_HEAD, "--num-cpus of the machine"),
        (
            AWS,
            "available_node_types/head/node_config/InstanceMarketOptions",
            {"MarketType": "spot"},
            "the driver dies with its machine",
        ),
        (AWS, "available_node_types/gpu-spot/resources/CPU", 4, "priority between the two"),
        # how Ray is started, and who may talk to it
        (
            AWS,
            "head_start_ray_commands/1",
            f"{START_HEAD} --num-cpus=0 --num-gpus=0 --dashboard-host=0.0.0.0",
            "bind the dashboard to 0.0.0.0",
        ),
        (AWS, "head_start_ray_commands", ABSENT, "Ray's default for the head differs"),
        (OWN, "worker_start_ray_commands/0", "ray start --address=x", "begin with 'ray stop'"),
        (AWS, "worker_start_ray_commands/1", "ray start --address=x:6379", "$RAY_HEAD_IP:6379"),
        (AWS, "docker/run_options/0", "--env RAY_AUTH_MODE=disabled", "without authentication"),
        (GCP, "file_mounts", {}, "bring no token"),
        (
            AWS,
            "available_node_types/head/node_config/SecurityGroupIds",
            ABSENT,
            "opens ssh to every address",
        ),
        # images
        (AWS, "docker/image", "lorastyle", "changes under the same name"),
        (GCP, "docker/image", "host:5000/lorastyle:latest", "changes under the same name"),
        (AWS, "docker", ABSENT, "run the image of cluster/Dockerfile"),
        # what the clouds are handed
        (
            AWS,
            "available_node_types/gpu-spot/node_config/InstanceTyp",
            "x",
            "did you mean 'InstanceType'?",
        ),
        (AWS, "available_node_types/gpu-spot/node_config/ImageId", ABSENT, "must be given"),
        (
            AWS,
            "available_node_types/gpu-spot/node_config/BlockDeviceMappings/0/Ebs/VolumeSize",
            "150",
            "write an integer",
        ),
        (
            AWS,
            "available_node_types/head/node_config/BlockDeviceMappings/0/Ebs/DeleteOnTermination",
            False,
            "outlives its machine",
        ),
        (
            GCP,
            "available_node_types/gpu-spot/node_config/scheduling/onHostMaintenance",
            "MIGRATE",
            "write TERMINATE",
        ),
        (
            GCP,
            "available_node_types/gpu-spot/node_config/scheduling/automaticRestart",
            True,
            "write false",
        ),
        (GCP, "provider/project_id", ABSENT, "say where machines are started"),
        # secrets
        (AWS, "metadata/note", f"key {KEY}", "looks like a key"),
        (AWS, "docker/run_options/0", "--env RAY_AUTH_TOKEN=tell-nobody", "RAY_AUTH_TOKEN"),
        (GCP, "provider/gcp_credentials", {"type": "x", "credentials": "{}"}, "refused by Ray"),
        (AWS, "metadata/password", "hunter2", "in plain text"),
        (CLUSTER, f"{POD}/containers/0/env", [{"name": "HF_TOKEN", "value": "x"}], "valueFrom"),
        (CLUSTER, "metadata/annotations", {"note": TOKEN}, "looks like a key"),
        (CLUSTER, "kind", "Secret", "create it with kubectl"),
        # fields of Kubernetes
        (CLUSTER, "kind", "RayClutser", "did you mean 'RayCluster'?"),
        (CLUSTER, "apiVersion", "ray.io/v1alpha1", "write ray.io/v1"),
        (CLUSTER, "spec/autoscalerOption", {}, "did you mean 'autoscalerOptions'?"),
        (CLUSTER, f"{SPOT}/maxReplica", 3, "did you mean 'maxReplicas'?"),
        (CLUSTER, f"{SPOT}/maxReplicas", ABSENT, "must be given"),
        (CLUSTER, f"{SPOT}/minReplicas", True, "write an integer"),
        (CLUSTER, "spec/headGroupSpec/rayStartParams/num-cpus", 0, "write a string, in quotes"),
        (CLUSTER, f"{SPOT_POD}/containers/0/resources/limits/memory", "48 GB", "a quantity"),
        (CLUSTER, f"{SPOT_POD}/tolerations/0/operator", "Exist", "write Exists or Equal"),
        (CLUSTER, "metadata/name", "Lora_Style", "small letters"),
        (JOB, "metadata/name", "a" * 48, "at most 47"),
        (POLICY, "spec/ingres", [], "did you mean 'ingress'?"),
        # a Ray cluster on Kubernetes
        (CLUSTER, "spec/authOptions", ABSENT, "runs code in it"),
        (CLUSTER, "spec/authOptions/mode", "disabled", "write token"),
        (CLUSTER, "spec/rayVersion", "2.51.0", "2.52.0 or later"),
        (CLUSTER, "spec/enableInTreeAutoscaling", False, "neither come nor go"),
        (CLUSTER, "spec/autoscalerOptions/version", "v1", "write v2"),
        (CLUSTER, "spec/autoscalerOptions/idleTimeoutSeconds", 86400, "at most 1800"),
        (CLUSTER, f"{POD}/restartPolicy", "Always", "write Never"),
        (CLUSTER, f"{SPOT_POD}/restartPolicy", "OnFailure", "write Never"),
        (CLUSTER, f"{SPOT}/replicas", 17, "must be ordered"),
        (CLUSTER, f"{SPOT}/minReplicas", 17, "must be ordered"),
        (CLUSTER, f"{SPOT}/minReplicas", 1, "paid for while nothing trains"),
        (CLUSTER, f"{SPOT_POD}/tolerations", [], "the pod would never start"),
        (CLUSTER, "spec/headGroupSpec/resources", {"CPU": "0"}, "only one of them"),
        (CLUSTER, "spec/headGroupSpec/rayStartParams/num-cpus", "4", "off the pod of the driver"),
        (CLUSTER, "spec/headGroupSpec/rayStartParams/dashboard-host", ABSENT, "means 0.0.0.0"),
        (JOB, f"{JOBS_HEAD}/dashboard-host", "127.0.0.1", "ask how the job does"),
        (CLUSTER, "spec/headGroupSpec/serviceType", "LoadBalancer", "no public address"),
        (CLUSTER, "spec/headGroupSpec/enableIngress", True, "no public address"),
        (CLUSTER, f"{SPOT_POD}/containers/0/image", "r/lorastyle:2", "one image for all"),
        (CLUSTER, f"{SPOT_POD}/containers/0/resources/requests/memory", "64Gi", "at most the"),
        (CLUSTER, f"{SPOT_POD}/containers/0/resources/limits/cpu", ABSENT, "from its limits"),
        (CLUSTER, f"{SPOT_POD}/containers/0/resources/limits/cpu", "7", "decides nothing"),
        (CLUSTER, f"{SPOT_POD}/volumes/0/name", "cash", "no such volume"),
        (CLUSTER, f"{SPOT_POD}/securityContext/runAsNonRoot", False, "needs no root"),
        (CLUSTER, f"{SPOT_POD}/hostNetwork", True, "policies do not hold"),
        # a job
        (JOB, "spec/entrypoint", "python train.py", "run one of ours"),
        (JOB, "spec/entrypointNumCpus", 1, "the driver leaves the head"),
        (JOB, "spec/shutdownAfterJobFinishes", False, "the cluster would stay"),
        (JOB, "spec/ttlSecondsAfterFinished", -1, "is not negative"),
        (JOB, "spec/backoffLimit", -1, "0 or more attempts"),
        (JOB, "spec/activeDeadlineSeconds", ABSENT, "bound what the job can cost"),
        (JOB, "spec/submissionMode", "SidecarMode", "use K8sJobMode"),
        (JOB, "spec/submissionMode", "Sidecar", "write K8sJobMode or"),
        (JOB, "spec/clusterSelector", {"ray.io/cluster": "x"}, "and not both"),
        (JOB, "spec/runtimeEnvYAML", "a: [", "is no YAML"),
        (STAGED, "spec/shutdownAfterJobFinishes", True, "excludes shutdownAfterJobFinishes"),
        (STAGED, "spec/ttlSecondsAfterFinished", 60, "goes with shutdownAfterJobFinishes"),
        (STAGED, RULES, [], "onSuccess and onFailure are going away"),
        (STAGED, f"{RULES}/0/condition/jobStatus", "FAILED", "repeats DeleteCluster"),
        (STAGED, f"{RULES}/0/condition/ttlSeconds", 90000, "must come later"),
        (STAGED, f"{RULES}/0/condition/jobDeploymentStatus", "Failed", "exactly one of"),
        (STAGED, f"{RULES}/0/policy", "DeleteWorkers", "refuses with autoscaling"),
        (STAGED, f"{RULES}/0/policy", "DeleteAll", "write DeleteCluster or"),
    ],
)  # fmt: skip
def test_a_mistake_is_found(
    findings_of: Check, name: str, path: str, value: Any, sentence: str
) -> None:
    findings = findings_of(name, path, value)
    assert any(sentence in finding for finding in findings), findings


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        (AWS, "max_workers", 200),
        (AWS, "available_node_types/gpu-on-demand", ABSENT),
        (AWS, "docker/image", f"r/lorastyle@sha256:{TOKEN}"),
        (GCP, "available_node_types/gpu-spot/max_workers", 2),
        (OWN, "head_start_ray_commands/0", "ray stop --force"),
        (CLUSTER, "spec/authOptions/secretName", "my-token"),
        (CLUSTER, f"{SPOT}/resources", {"CPU": "6"}),
        (CLUSTER, f"{POD}/restartPolicy", "Never"),
        (CLUSTER, f"{SPOT_POD}/tolerations", [{"operator": "Exists"}]),
        (JOB, "spec/backoffLimit", 0),
        (STAGED, f"{RULES}/2", ABSENT),  # DeleteSelf takes the cluster along
    ],
)
def test_what_is_a_matter_of_taste_passes(
    findings_of: Check, name: str, path: str, value: Any
) -> None:
    assert findings_of(name, path, value) == []


def test_a_job_without_a_rule_for_failure_would_leave_its_head(findings_of: Check) -> None:
    rules = [{"policy": "DeleteCluster", "condition": {"jobStatus": "SUCCEEDED"}}]
    (finding,) = findings_of(STAGED, RULES, rules)
    assert "no DeleteCluster for FAILED" in finding


def test_a_finding_names_the_file_the_field_its_value_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        (HERE / AWS).read_text().replace("idle_timeout_minutes: 5", "idle_timeout_minutes: 90")
    )
    (finding,) = check(file)
    assert str(finding).startswith(f"{file}: idle_timeout_minutes is 90; choose")


def test_a_secret_is_reported_without_being_repeated(findings_of: Check) -> None:
    findings = findings_of(AWS, "metadata/note", f"{KEY} {TOKEN}")
    assert findings
    assert KEY not in "".join(findings) and TOKEN not in "".join(findings)


def test_ready_names_what_is_left_to_fill_in(findings_of: Check) -> None:
    findings = findings_of(GCP, ready=True)
    assert any(finding.startswith("provider.project_id still says") for finding in findings)
    assert findings_of(GCP) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"- a\n", "is no mapping"),
        (b"a: [\n", "is no YAML, line 2"),
        (b"\xff\xfe\x00", "is not text"),
        (b"a: 1\n", "neither for `ray up`"),
    ],
)
def test_what_is_no_cluster_file_is_said_so(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    (finding,) = check(file)
    assert sentence in str(finding)


def test_the_exit_status_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert main([str(tmp_path / "none.yaml")]) == 1
    assert "cannot be read" in capsys.readouterr().out
    with pytest.raises(SystemExit) as wrong_use:
        main(["--no-such-option"])
    assert wrong_use.value.code == 2


def test_it_runs_as_a_module_from_the_root() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.validate"],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert f"{len(SHIPPED)} files, 0 findings" in done.stderr


def test_the_fields_of_aws_are_those_of_its_own_client() -> None:
    """The table against EC2's own description, as its client for Python carries it."""
    session = pytest.importorskip("botocore.session").get_session()
    shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    ours = {name.rstrip("!") for name in table()["AwsNode"]}
    assert ours - set(shape.members) == {"SubnetIds"}  # Ray's own
    for field, kind in (("BlockDeviceMappings", "AwsDisk"), ("MetadataOptions", "AwsMetadata")):
        members = shape.members[field]
        members = members.member.members if members.type_name == "list" else members.members
        assert set(table()[kind]) <= set(members)


@pytest.mark.parametrize("module", [_finding, _commands, _fields])
def test_the_examples_in_its_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def _shell_commands() -> list[str]:
    commands: list[str] = []
    for name in (AWS, GCP, OWN):
        config = yaml.safe_load((HERE / name).read_text())
        lists = [value for key, value in config.items() if key.endswith("_commands")]
        lists += [
            node_type.get("initialization_commands", [])
            for node_type in config.get("available_node_types", {}).values()
        ]
        commands += [command for each in lists for command in each]
    return sorted(set(commands))


@pytest.mark.parametrize("command", _shell_commands())
def test_every_command_of_ray_up_is_a_shell_command(command: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_both_jobs_describe_the_same_cluster() -> None:
    job, staged = (yaml.safe_load((HERE / name).read_text()) for name in (JOB, STAGED))
    assert job["spec"]["rayClusterSpec"] == staged["spec"]["rayClusterSpec"]


@pytest.mark.parametrize("name", [CLUSTER, JOB, STAGED])
def test_the_network_policy_selects_every_ray_pod(name: str) -> None:
    spec = yaml.safe_load((HERE / name).read_text())["spec"]
    spec = spec.get("rayClusterSpec", spec)
    policy = yaml.safe_load((HERE / POLICY).read_text())
    wanted = policy["spec"]["podSelector"]["matchLabels"].items()
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert wanted <= group["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", [CLUSTER, JOB, STAGED])
def test_the_head_lies_on_no_spot_node(name: str) -> None:
    spec = yaml.safe_load((HERE / name).read_text())["spec"]
    head = spec.get("rayClusterSpec", spec)["headGroupSpec"]["template"]["spec"]
    assert head["nodeSelector"] == {"lorastyle/capacity": "on-demand"}
    assert "tolerations" not in head


def test_the_image_has_the_versions_that_the_files_name() -> None:
    pins = dict(
        line.split("==") for line in (HERE / "constraints.txt").read_text().split() if "==" in line
    )
    dockerfile = (HERE / "Dockerfile").read_text()
    assert f"torch=={pins['torch']}" in dockerfile
    for name in SHIPPED:
        text = (HERE / name).read_text()
        assert "lorastyle:" not in text or f"-ray{pins['ray']}" in text
        assert "rayVersion" not in text or f'rayVersion: "{pins["ray"]}"' in text
