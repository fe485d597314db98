"""papermill's engines of this package. Import `engines`, which loads papermill first: that in turn loads this module.

Both shut the kernel down at once and write the executed notebook once: papermill's own writes it two times a cell, and
waits for the kernel's own end. They are thread-safe as long as papermill's `cwd` is not used; give
`resources={"metadata": {"path": folder}}` instead.
"""

from __future__ import annotations

from typing import Any

from papermill.engines import NBClientEngine, NotebookExecutionManager

from personalab.forked_kernels import ForkedKernelManager


class SpawnEngine(NBClientEngine):  # type: ignore[misc]
    """Ordinary kernels, for threads: one save, at the end or on an error, and no waiting for a kernel's own end."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 0,
        **options: Any,
    ) -> Any:
        """Run a notebook node. What ends by itself, well or with an error in a cell, papermill writes afterwards."""
        manager = NotebookExecutionManager(
            nb, progress_bar=progress_bar, log_output=log_output, autosave_cell_every=0
        )
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, **options)
        except BaseException:  # a dead kernel, a time-out, Ctrl-C
            manager.output_path = output_path
            raise
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        return manager.nb

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        """Run the cells."""
        options.setdefault("shutdown_kernel", "immediate")
        return super().execute_managed_notebook(nb_man, kernel_name, **options)


class ForkEngine(SpawnEngine):
    """Kernels forked from a warm parent."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        """Run the cells."""
        source = "\n".join(cell.source for cell in nb_man.nb.cells if cell.cell_type == "code")
        options["kernel_manager_class"] = ForkedKernelManager.for_notebook(source)
        return super().execute_managed_notebook(nb_man, kernel_name, **options)
