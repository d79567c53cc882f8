// Brings a viewer panel to life: a scan and its mask in three planes and in 3D, by NiiVue.
"use strict";

(() => {
  const PLANES = { axial: 2, coronal: 1, sagittal: 0 }; // axis of the scan in RAS order that a plane lies across

  // Where cases come from: the server of `medfm3d view`, or the page itself.
  const sources = {
    server: () => {
      const names = [...document.querySelectorAll("[data-case]")].map((button) => button.dataset.case);
      const fetched = async (address) => {
        const answer = await fetch(address);
        if (!answer.ok) throw new Error((await answer.text()).trim());
        return answer;
      };
      return {
        count: names.length,
        async open(number) {
          const description = await (await fetched(`case/${number}/description.json`)).json();
          const volume = async (name) => (await fetched(`case/${number}/${name}.nii`)).arrayBuffer();
          return { description, scan: await volume("scan"), mask: description.mask ? await volume("mask") : null };
        },
      };
    },
    embedded: () => {
      const cases = JSON.parse(document.getElementById("embedded-cases").textContent);
      const unpacked = async (text) => {
        const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
      };
      return {
        count: cases.length,
        async open(number) {
          const { scan_nifti, mask_nifti, ...description } = cases[number];
          return { description, scan: await unpacked(scan_nifti), mask: mask_nifti && (await unpacked(mask_nifti)) };
        },
      };
    },
  };

  class Viewer {
    constructor(root) {
      this.root = root;
      this.source = sources[root.dataset.viewer]();
      this.case = null;
      this.request = 0;
      const one = (name) => root.querySelector(`[data-role=${name}]`);
      this.part = Object.fromEntries([...root.querySelectorAll("[data-role]")].map((e) => [e.dataset.role, one(e.dataset.role)]));
      this.part.opacity.addEventListener("input", () => this.setOpacity());
      this.part.zoom.addEventListener("input", () => this.setZoom(Number(this.part.zoom.value)));
      this.part.window.addEventListener("change", () => this.setWindow());
      this.part.all.addEventListener("change", () => this.showAll(this.part.all.checked));
      this.part.previous.addEventListener("click", () => this.open(this.number - 1));
      this.part.next.addEventListener("click", () => this.open(this.number + 1));
      for (const [plane, axis] of Object.entries(PLANES)) {
        this.part[plane].addEventListener("input", () => this.setSlice(axis, Number(this.part[plane].value) - 1));
      }
    }

    async start() {
      if (this.niivue) return;
      const { Niivue, MULTIPLANAR_TYPE, SHOW_RENDER } = niivue;
      this.niivue = new Niivue({
        isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarLayout: MULTIPLANAR_TYPE.GRID,
        multiplanarShowRender: SHOW_RENDER.ALWAYS, isOrientCube: false, show3Dcrosshair: true,
        backColor: [0, 0, 0, 1], crosshairColor: [0.75, 1, 0.2, 0.9], crosshairWidth: 0.6, crosshairWidthUnit: "percent",
        crosshairGap: 8, fontMinPx: 14, fontColor: [1, 1, 1, 1], showAllOrientationMarkers: true,
        dragAndDropEnabled: false, isNearestInterpolation: true, logLevel: "error", loadingText: "",
        isForceMouseClickToVoxelCenters: true, scrollRequiresFocus: this.root.dataset.viewer === "embedded",
      });
      this.niivue.onLocationChange = (place) => this.showPlace(place);
      await this.niivue.attachToCanvas(this.part.canvas);
    }

    say(text, fault = false) {
      this.part.message.textContent = text;
      this.part.message.classList.toggle("fault", fault);
      this.part.message.hidden = !text;
    }

    async open(number) {
      const request = ++this.request;
      this.number = number;
      this.root.dataset.state = "opening";
      this.say("Reading…");
      for (const button of document.querySelectorAll("[data-case]")) {
        button.setAttribute("aria-current", String(Number(button.dataset.case) === number));
      }
      this.part.previous.disabled = number <= 0;
      this.part.next.disabled = number >= this.source.count - 1;
      try {
        await this.start();
        const opened = await this.source.open(number);
        if (request !== this.request) return; // another case was clicked meanwhile
        await this.show(opened);
        this.say("");
        this.root.dataset.state = "shown";
      } catch (error) {
        if (request !== this.request) return;
        this.forget();
        this.say(error.message || String(error), true);
        this.root.dataset.state = "failed";
      }
    }

    forget() {
      while (this.niivue?.volumes.length) this.niivue.removeVolumeByIndex(0);
      this.case = null;
      this.part.name.textContent = this.part.about.textContent = this.part.place.textContent = "";
      this.part.organs.tBodies[0].replaceChildren();
    }

    async show({ description, scan, mask }) {
      this.forget();
      this.case = description;
      this.toVoxel = inverse(description.affine);
      this.hidden = new Set();
      const windows = Object.entries(description.windows);
      const [low, high] = windows[0][1];
      const { NVImage } = niivue;
      this.niivue.addVolume(await NVImage.loadFromUrl({
        url: scan, name: "scan.nii", colormap: "gray", cal_min: low, cal_max: high, colorbarVisible: false,
      }));
      if (mask) {
        const image = await NVImage.loadFromUrl({ url: mask, name: "mask.nii", opacity: this.opacity(), colorbarVisible: false });
        image.setColormapLabel(this.colours());
        this.niivue.addVolume(image);
      }
      this.part.window.replaceChildren(...windows.map(([name, limits]) => new Option(`${name} (${limits.map(short).join(" to ")})`, name)));
      this.part.name.textContent = description.name;
      this.part.about.textContent = about(description);
      this.listOrgans();
      const sides = this.niivue.volumes[0].dimsRAS;
      for (const [plane, axis] of Object.entries(PLANES)) this.part[plane].max = sides[axis + 1];
      this.setZoom(1);
      const first = description.organs.find((row) => row.centre_voxel);
      this.moveTo(first ? first.centre_voxel : description.shape.map((side) => (side - 1) >> 1));
    }

    // Colour and opacity of each id of the mask; what is not in the table stays invisible.
    colours() {
      const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
      for (const { organ, id, colour } of this.case.organs) {
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
        table.R.push(r); table.G.push(g); table.B.push(b);
        table.A.push(this.hidden.has(id) ? 0 : 255);
        table.I.push(id);
        table.labels.push(organ);
      }
      return table;
    }

    listOrgans() {
      const rows = this.case.organs.map((row) => {
        const line = document.createElement("tr");
        const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, disabled: !row.voxels });
        box.setAttribute("aria-label", `Show ${row.organ}`);
        box.addEventListener("change", () => this.showOrgan(row.id, box.checked));
        const name = Object.assign(document.createElement("button"), { type: "button", disabled: !row.voxels });
        const swatch = Object.assign(document.createElement("i"), { className: "swatch" });
        swatch.style.background = row.colour;
        name.append(swatch, row.organ);
        name.title = row.voxels ? `Go to ${row.organ}` : "Not in this mask";
        name.addEventListener("click", () => this.moveTo(row.centre_voxel));
        const volume = row.voxels ? millilitres(row.volume_ml) : "none";
        for (const content of [box, name, volume]) line.insertCell().append(content);
        line.cells[2].title = row.voxels ? `${row.voxels} voxels` : "";
        line.classList.toggle("absent", !row.voxels);
        line.dataset.organ = row.organ;
        return line;
      });
      this.part.organs.tBodies[0].replaceChildren(...rows);
      this.part.organs.hidden = !rows.length;
      this.part.unmasked.hidden = Boolean(this.case.mask);
      this.part.all.checked = true;
    }

    showOrgan(id, shown) {
      this.hidden[shown ? "delete" : "add"](id);
      this.part.all.checked = !this.hidden.size;
      this.recolour();
    }

    showAll(shown) {
      this.hidden = new Set(shown ? [] : this.case.organs.map((row) => row.id));
      for (const box of this.part.organs.tBodies[0].querySelectorAll("input:enabled")) box.checked = shown;
      this.recolour();
    }

    recolour() {
      if (!this.niivue.volumes[1]) return;
      this.niivue.volumes[1].setColormapLabel(this.colours());
      this.niivue.updateGLVolume();
    }

    opacity() {
      return Number(this.part.opacity.value) / 100;
    }

    setOpacity() {
      this.part["opacity-percent"].textContent = `${this.part.opacity.value} %`;
      if (this.niivue?.volumes[1]) this.niivue.setOpacity(1, this.opacity());
    }

    // Planes are magnified about the crosshair.
    setZoom(zoom) {
      this.part.zoom.value = zoom;
      this.part["zoom-factor"].textContent = `${zoom} ×`;
      if (!this.case) return;
      const { scene } = this.niivue;
      const centre = this.niivue.frac2mm(scene.crosshairPos);
      const more = scene.pan2Dxyzmm[3] - zoom;
      this.niivue.setPan2Dxyzmm([...[0, 1, 2].map((n) => (zoom === 1 ? 0 : scene.pan2Dxyzmm[n] + more * centre[n])), zoom]);
    }

    setWindow() {
      const scan = this.niivue?.volumes[0];
      if (!scan) return;
      [scan.cal_min, scan.cal_max] = this.case.windows[this.part.window.value];
      this.niivue.updateGLVolume();
    }

    setSlice(axis, index) {
      if (!this.case) return;
      const place = [...this.niivue.scene.crosshairPos];
      place[axis] = (index + 0.5) / this.niivue.volumes[0].dimsRAS[axis + 1];
      this.niivue.scene.crosshairPos = place;
      this.niivue.drawScene();
      this.niivue.createOnLocationChange();
    }

    // Go to a voxel of the file, which is not a voxel of what is shown where that is cut or reduced.
    moveTo(voxel) {
      const mm = apply(this.case.affine, voxel);
      this.niivue.scene.crosshairPos = [...this.niivue.mm2frac(mm)];
      this.niivue.drawScene();
      this.niivue.createOnLocationChange();
    }

    showPlace(place) {
      if (!this.case) return;
      const mm = [...place.mm].slice(0, 3);
      const voxel = apply(this.toVoxel, mm).map(Math.round);
      const [scan, mask] = place.values;
      const organ = mask && this.case.organs.find((row) => row.id === Math.round(mask.value));
      const said = [
        `voxel ${voxel.join(", ")}`,
        `${[mm[0] < 0 ? "L" : "R", mm[1] < 0 ? "P" : "A", mm[2] < 0 ? "I" : "S"].map((side, n) => `${side} ${Math.abs(mm[n]).toFixed(1)}`).join(", ")} mm`,
        `${this.case.unit ? "" : "value "}${short(scan.value)}${this.case.unit && ` ${this.case.unit}`}`,
        mask ? (organ ? organ.organ : "no organ") : "",
      ];
      this.part.place.replaceChildren(...said.filter(Boolean).map((text) => Object.assign(document.createElement("span"), { textContent: text })));
      this.root.dataset.voxel = voxel.join(",");
      this.root.dataset.value = scan.value;
      const sides = this.niivue.volumes[0].dimsRAS;
      for (const [plane, axis] of Object.entries(PLANES)) {
        const slice = Math.min(sides[axis + 1], Math.floor(this.niivue.scene.crosshairPos[axis] * sides[axis + 1]) + 1);
        this.part[plane].value = slice;
        this.part[`${plane}-slice`].textContent = `${slice} / ${sides[axis + 1]}`;
      }
    }
  }

  const millilitres = (ml) => (ml >= 100 ? ml.toFixed(0) : ml >= 1 ? ml.toFixed(1) : ml.toPrecision(2));
  const short = (number) => String(Number(number.toPrecision(4)));

  function about(description) {
    const size = `${description.shape.join(" × ")} voxels of ${description.spacing_mm.map((mm) => Number(mm.toPrecision(3))).join(" × ")} mm`;
    const said = [description.modality, size, `axes ${description.orientation}`];
    if (description.shown) said.push(`shown here: ${description.shown}`);
    if (description.oblique_degrees) said.push(`oblique by ${description.oblique_degrees}°: planes follow the scan's own axes`);
    return said.join("; ");
  }

  const apply = (affine, point) => [0, 1, 2].map((row) => affine[row][3] + [0, 1, 2].reduce((sum, n) => sum + affine[row][n] * point[n], 0));

  function inverse(affine) {
    const [[a, b, c], [d, e, f], [g, h, i]] = affine;
    const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    const turned = [
      [e * i - f * h, c * h - b * i, b * f - c * e],
      [f * g - d * i, a * i - c * g, c * d - a * f],
      [d * h - e * g, b * g - a * h, a * e - b * d],
    ].map((row) => row.map((value) => value / determinant));
    const shift = affine.map((row) => row[3]);
    return turned.map((row) => [...row, -row.reduce((sum, value, n) => sum + value * shift[n], 0)]);
  }

  const root = document.querySelector("[data-viewer]");
  const viewer = new Viewer(root);
  for (const button of document.querySelectorAll("[data-case]")) {
    button.addEventListener("click", () => {
      const panel = root.closest("[hidden]");
      if (panel) panel.hidden = false;
      viewer.open(Number(button.dataset.case));
      if (root.dataset.viewer === "embedded") root.scrollIntoView({ block: "start" });
    });
  }
  if (root.dataset.viewer === "server" && viewer.source.count) viewer.open(0);
})();
