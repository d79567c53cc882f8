"""Running a bundle's workflows from Python."""

import json

from medfm3d.inference.workflow import open_workflow


def test_paths_with_a_hash_reach_the_workflow_as_they_are(tmp_path):
    bundle = tmp_path / "bundle #1"
    (bundle / "configs").mkdir(parents=True)
    config = {"output_dir": "", "file": "$@output_dir + '/mask'", "files": [], "sizes": {}, "second": None}
    for name, content in {"inference": config | {"run": [], "initialize": []}, "metadata": {}}.items():
        (bundle / "configs" / f"{name}.json").write_text(json.dumps(content))
    values = {
        "output_dir": "/scans #2/it's \\# here",
        "files": ["/a#b", "c"],
        "sizes": {"organ": ["#1", 2]},
        "second": "@files#1",
    }

    parser = open_workflow(bundle, "inference", values).parser

    assert parser.get_parsed_content("output_dir") == values["output_dir"]
    assert parser.get_parsed_content("file") == values["output_dir"] + "/mask"
    assert parser.get_parsed_content("bundle_root") == str(bundle)
    assert parser.get_parsed_content("files") == values["files"]
    assert parser.get_parsed_content("sizes") == values["sizes"]
    assert parser.get_parsed_content("second") == "c"
