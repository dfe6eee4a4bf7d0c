/**
 * Writes into every Longreel node which pack it is from and which release, where the editor and ComfyUI-Manager look
 * for it when a graph is opened in a ComfyUI that lacks the pack. Of itself the editor writes neither, and of the
 * Manager only its older interface does.
 */
import { app } from "../../../scripts/app.js";

const PACK = "longreel"; // project.name in pyproject.toml: the pack's id in the registry
const VERSION = "0.1.0"; // project.version in pyproject.toml; a test holds both to it

app.registerExtension({
  name: "Longreel.PackIdentity",

  /**
   * Name the pack in a new node. What the Manager wrote stays, and what a saved graph holds is laid over it afterwards.
   * @param {{comfyClass?: string, properties?: Record<string, unknown>}} node
   */
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("Longreel")) return;
    const properties = (node.properties ??= {});
    properties.cnr_id ??= PACK;
    properties.ver ??= VERSION;
  },
});
