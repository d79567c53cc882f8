"""MONAI Label's stock app `monaibundle`, serving bundles from wherever they lie, newest model first."""

import importlib.util
import json
import logging
import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medfm3d.serving.pydicom_shim import install_shim

install_shim()

import torch  # noqa: E402
from fastapi import HTTPException  # noqa: E402
from monailabel.config import settings  # noqa: E402
from monailabel.interfaces.app import MONAILabelApp  # noqa: E402
from monailabel.interfaces.datastore import Datastore  # noqa: E402
from monailabel.interfaces.tasks.infer_v2 import InferTask  # noqa: E402
from monailabel.interfaces.tasks.scoring import ScoringMethod  # noqa: E402
from monailabel.interfaces.tasks.strategy import Strategy  # noqa: E402
from monailabel.interfaces.tasks.train import TrainTask  # noqa: E402
from monailabel.utils.async_tasks.utils import processes  # noqa: E402

from medfm3d.serving.app_folder import SERVED_FILE  # noqa: E402
from medfm3d.serving.datastore import CheckedDatastore  # noqa: E402
from medfm3d.serving.infer_task import AdaptedInferTask  # noqa: E402
from medfm3d.serving.prompted_task import PromptedInferTask, is_prompted  # noqa: E402
from medfm3d.serving.scan_outlook import ScanOutlook  # noqa: E402
from medfm3d.serving.scoring import STRATEGY, MostHelpful, OutlookScoring  # noqa: E402
from medfm3d.serving.served_bundle import ServedBundle  # noqa: E402
from medfm3d.serving.train_task import AdaptationTrainTask  # noqa: E402

logger = logging.getLogger(__name__)


def _stock_app() -> type[MONAILabelApp]:
    """Return the class of the sample app that the monailabel wheel installs beside the environment's files."""
    places = [Path(sysconfig.get_path("data", scheme)) for scheme in (sysconfig.get_default_scheme(), _user_scheme())]
    for place in places:
        file = place / "monailabel" / "sample-apps" / "monaibundle" / "main.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location("monailabel_stock_monaibundle", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.MyApp
    looked = ", ".join(map(str, places))
    raise FileNotFoundError(f"MONAI Label's app monaibundle is not in {looked}; install medfm3d with its extra: label")


def _user_scheme() -> str:
    return sysconfig.get_preferred_scheme("user")


# MONAI Label looks for a class that names MONAILabelApp among its direct bases.
class ServedApp(_stock_app(), MONAILabelApp):
    """The stock app, except for what concerns bundles that learn.

    Adapted and fresh bundles run and train by `AdaptedInferTask` and `AdaptationTrainTask`; any others run as the stock
    app runs them. Labels that no bundle could learn from are refused. Batches go on after a bad scan.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        content = json.loads((Path(app_dir) / SERVED_FILE).read_text(encoding="utf-8"))
        self.served = [ServedBundle(Path(path).name, Path(path)) for path in content["bundles"]]
        folders = ("cache", "notes", "outlook")
        self.cache_dir, self.notes_dir, self.outlook_dir = (Path(app_dir) / folder for folder in folders)
        super().__init__(app_dir, studies, dict(conf))

    def learners(self) -> list[ServedBundle]:
        """Return the bundles that the Train button can make anew."""
        return [bundle for bundle in self.served if bundle.adapted]

    def _outlook(self) -> ScanOutlook:
        bundle = self.learners()[0]
        return ScanOutlook(self.outlook_dir, bundle, self.notes_dir / bundle.name)

    def init_datastore(self) -> Datastore:
        """Open the folder of scans."""
        return CheckedDatastore(
            self.studies,
            self.learners,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return what runs each bundle, by its name; interactive ones also as the stock app offers them."""
        others = [bundle for bundle in self.served if not bundle.adapted]
        self.models = {bundle.name: str(bundle.path) for bundle in others if not is_prompted(bundle.path)}
        ours: dict[str, InferTask] = {
            bundle.name: AdaptedInferTask(bundle, self.conf, self.notes_dir / bundle.name) for bundle in self.learners()
        }
        prompted = {b.name: PromptedInferTask(b.path, self.conf) for b in others if is_prompted(b.path)}
        return ours | prompted | super().init_infers()

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return what trains each bundle that learns."""
        return {bundle.name: AdaptationTrainTask(bundle, self.cache_dir) for bundle in self.learners()}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return what chooses the next scan: the one whose label helps most, and the stock app's."""
        ours = {STRATEGY: MostHelpful(self._outlook())} if self.learners() else {}
        return ours | super().init_strategies()

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return what looks at the scans in the background."""
        if not self.learners():
            return {}
        return {"outlook": OutlookScoring(self._outlook(), self._infers[self.learners()[0].name])}

    def async_scoring(self, method: str | None, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Look at the scans in the background, if any waits and nobody looks already."""
        if method is None:
            scoring = next(iter(self._scoring_methods.values()), None)
            if scoring is None or processes("scoring") or not scoring.waiting(self.datastore()):
                return {}
        return super().async_scoring(method, params)

    def scoring(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Look at the scans; at low priority in a process of its own, since the annotator's requests go first."""
        if not self._server_mode and hasattr(os, "nice"):
            os.nice(10)
        return super().scoring(request, datastore)

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment many scans; one that cannot be segmented is named, and the others go on."""

        def infer(single: dict[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                return self.infer(single, store)
            except HTTPException as error:
                logger.error(f"{single['image']}: {error.detail}")
                return {"error": error.detail}

        if not torch.cuda.is_available():  # MONAI Label spreads scans over GPUs unless told not to, and divides by none
            request = {**request, "multi_gpu": False}
        return self._batch_infer(request, datastore or self.datastore(), infer)
