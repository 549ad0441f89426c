"""The code of the documents runs, as it stands there."""

from __future__ import annotations

from documents import python_blocks

BLOCKS = python_blocks()


def pytest_generate_tests(metafunc):
    # The documents are written for torch; the README says of its code that it does for both.
    torch = metafunc.config.getoption("--backend") == "torch"
    metafunc.parametrize("name", BLOCKS if torch else ["README.md-0"])


def test_code_of_the_documents_runs(name, backend, tmp_path, monkeypatch):
    code = BLOCKS[name]
    if backend != "torch":
        assert 'framework="torch"' in code
        code = code.replace('framework="torch"', 'framework="keras"')
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {"__name__": "document"})
