"""Ray's own provider starts and ends the machines of aws.yaml, at a simulated EC2 (moto)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.validate import HERE, check

REGION = "us-west-2"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """aws.yaml, filled in with what the simulated account has, as `ray up` prepares it."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()  # Ray keeps the machines' key there
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.setenv("HOME", str(home))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "simulated")
        file = home / "aws.yaml"
        file.write_text(_filled((HERE / "aws.yaml").read_text()))
        assert check(file, ready=True) == []
        prepared = prepare_config(yaml.safe_load(file.read_text()))
        yield bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(prepared))


def _filled(text: str) -> str:
    ec2, iam = boto3.client("ec2", REGION), boto3.client("iam", REGION)
    for profile in ("head", "worker"):
        iam.create_instance_profile(InstanceProfileName=profile)
    group = ec2.create_security_group(
        GroupName="lorastyle",
        Description="lorastyle",
        VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
    )
    values = {
        "FILL-IN-REGISTRY": "registry",
        "FILL-IN-AMI": ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"],
        "FILL-IN-HEAD-PROFILE": "head",
        "FILL-IN-WORKER-PROFILE": "worker",
        "FILL-IN-SECURITY-GROUP": group["GroupId"],
    }
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def _instances() -> list[dict[str, Any]]:
    reservations = boto3.client("ec2", REGION).describe_instances()["Reservations"]
    return [instance for each in reservations for instance in each["Instances"]]


def test_each_kind_of_machine_is_started_as_meant_and_ended(config: dict[str, Any]) -> None:
    validate_config({key: value for key, value in config.items() if key != "head_node"})
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, node_type in config["available_node_types"].items():
        tags = {"ray-user-node-type": name, "ray-node-status": "uninitialized"}
        provider.create_node(copy.deepcopy(node_type["node_config"]), tags, 1)

    started = {_tag(each, "ray-user-node-type"): each for each in _instances()}
    assert {name: _profile(each) for name, each in started.items()} == {
        "head": "head", "gpu-spot": "worker", "gpu-on-demand": "worker", "cpu-spot": "worker",
    }  # fmt: skip
    spot = {name for name, each in started.items() if each.get("InstanceLifecycle") == "spot"}
    assert spot == {"gpu-spot", "cpu-spot"}

    provider.terminate_nodes(provider.non_terminated_nodes({}))
    assert {each["State"]["Name"] for each in _instances()} == {"terminated"}


def test_ray_gives_work_no_place_on_the_head(config: dict[str, Any]) -> None:
    resources = {name: each["resources"] for name, each in config["available_node_types"].items()}
    assert resources["head"] == {"CPU": 0, "GPU": 0}
    # Alike to the last entry: only then does the priority decide between spot and on demand.
    assert resources["gpu-spot"] == resources["gpu-on-demand"]
    assert resources["gpu-spot"]["GPU"] == 1


def _tag(instance: dict[str, Any], key: str) -> str:
    return next(str(tag["Value"]) for tag in instance["Tags"] if tag["Key"] == key)


def _profile(instance: dict[str, Any]) -> str:
    return str(instance["IamInstanceProfile"]["Arn"]).rpartition("/")[2]
