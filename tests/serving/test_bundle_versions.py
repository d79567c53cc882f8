"""A bundle is replaced as a whole, whenever it is cut off."""

from pathlib import Path

import pytest

from medfm3d.serving import earlier_versions, recover_bundle, replace_bundle


def make(folder: Path, content: str) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "model.pt").write_text(content)
    (folder / "models" / "encoder.safetensors").write_bytes(b"pretrained" * 100)
    return folder


def content(folder: Path) -> str:
    return (folder / "models" / "model.pt").read_text()


def test_earlier_bundles_are_kept_in_order(tmp_path: Path) -> None:
    bundle = make(tmp_path / "liver", "first")
    for text in ("second", "third", "fourth"):
        kept = replace_bundle(bundle, make(tmp_path / "new", text))
    assert kept.name == "0003" and content(bundle) == "fourth"
    assert [content(version) for version in earlier_versions(bundle)] == ["first", "second", "third"]
    assert not any(earlier_versions(version) for version in earlier_versions(bundle))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["liver"]
    encoders = [version / "models" / "encoder.safetensors" for version in (bundle, *earlier_versions(bundle))]
    assert len({file.stat().st_ino for file in encoders}) == 1  # one copy on the disk


@pytest.mark.parametrize("renames", [1, 2])
def test_what_was_cut_off_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    bundle, done = make(tmp_path / "liver", "old"), []
    rename = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        replace_bundle(bundle, make(tmp_path / "new", "new"))
    monkeypatch.setattr(Path, "replace", rename)
    recover_bundle(bundle)
    assert content(bundle) == ("old" if renames == 1 else "new")
    assert [content(version) for version in earlier_versions(bundle)] == ([] if renames == 1 else ["old"])
    recover_bundle(bundle)  # nothing more to do
    assert content(bundle) == ("old" if renames == 1 else "new")
