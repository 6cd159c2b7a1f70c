"""Training throughput: stacks of adapters beside a lean loop of diffusers and PEFT."""
