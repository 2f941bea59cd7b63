import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BESIDE_THE_PROGRAM = fileURLToPath(new URL("../../", import.meta.url));
/** Where the Debian package puts it. */
const PACKAGED = "/usr/share/doc/summit-edge/";

const folder = existsSync(join(BESIDE_THE_PROGRAM, "docs")) ? BESIDE_THE_PROGRAM : PACKAGED;

/** Where a page of the project, such as docs/access.md, lies on this machine. */
export const documentAt = (page: string): string => join(folder, page);
