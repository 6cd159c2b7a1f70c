"""The API against its own OpenAPI description, by requests that are made from it."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

OPERATIONS = {
    ("/search", "POST"), ("/compare", "POST"), ("/inspect", "POST"), ("/map", "GET"),
    ("/about", "GET"), ("/adapters/{row}/image", "GET"), ("/metrics", "GET"), ("/healthz", "GET"),
}  # fmt: skip
N_EXAMPLES = 10


@pytest.fixture(scope="module")
def description(app):
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_all_that_is_served_is_described(description):
    found = [one.ok() for one in description.get_all_operations()]
    assert {(one.path, one.method.upper()) for one in found} == OPERATIONS


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_answers_are_as_the_description_says(description, path, method, mode):
    """Whether requests are as they should be or not."""
    operation = description[path][method]
    if mode is GenerationMode.NEGATIVE and path in ("/about", "/metrics", "/healthz"):
        return  # they take nothing that could be wrong

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=N_EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        # Bytes by chance are no LoRA file, and are refused with 422 as they should.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()
