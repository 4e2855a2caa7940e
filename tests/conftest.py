"""Strict flags for every test. x64 is on; FUNCNET_TEST_X64=0 runs the same tests without it."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", os.environ.get("FUNCNET_TEST_X64", "1") != "0")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))

# Most of the time goes into compiling: what one process has compiled serves the others, and the next run.
for name, value in {
    "jax_compilation_cache_dir": str(Path(__file__).parent.parent / ".pytest_cache" / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)  # for programs that tests start


@pytest.fixture
def standard_promotion():
    """JAX's default promotion, for tests that run Optax's adaptive rules: they mix int32 counts with floats."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")  # for every thread, unlike the context manager
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
