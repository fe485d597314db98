"""Notebooks that nbmake runs get forked kernels, which take a tenth of the time."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Where kernels can be forked, let nbmake's client do so."""
    if not config.getoption("nbmake", False):
        return
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient
    from nbmake import nb_run
    from traitlets import Enum, Type

    from personalab.forked_kernels import ForkedKernelManager, can_fork

    class ForkedNotebookClient(NotebookClient):
        """As nbmake's, with a kernel that is forked and killed when it is done."""

        kernel_manager_class = Type(ForkedKernelManager.for_notebook("altair"), klass=KernelManager)
        shutdown_kernel = Enum(["graceful", "immediate"], default_value="immediate")

    if can_fork():
        nb_run.NotebookClient = ForkedNotebookClient
