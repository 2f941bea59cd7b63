import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** Links of the Markdown pages below `folder` that lead to no file; absolute ones are seen from `root`. */
export function deadLinks(folder: string, root = ""): string[] {
  const pages = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (path) => path.endsWith(".md") && !path.split("/").includes("node_modules"),
  );
  return pages.flatMap((page) => {
    const links = [...readFileSync(join(folder, page), "utf8").matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map(([, to]) => to);
    const files = links.filter((to) => to !== undefined && !/^[a-z]+:/.test(to));
    const leads = (to = ""): boolean => existsSync(to.startsWith("/") ? root + to : resolve(folder, dirname(page), to));
    return files.filter((to) => !leads(to)).map((to) => `${page}: ${to}`);
  });
}
