import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { main } from "./lib/command";
import { projectRoot } from "./lib/paths";
import { step } from "./lib/progress";
import { UserError } from "./lib/user-error";
import { findProgram } from "./lib/find-program";
import { nodeTools } from "./toolchain/assemble";
import { runInNodeSystem } from "./toolchain/node-system";

// Types, lint, format and shell: what can be said about the code without running it.
main(async () => {
  await check("types", ["tsc", "--noEmit", "--project", "."]);
  await check("lint", ["eslint", "."]);
  await check("format", ["prettier", "--check", "."]);
  await step("shell scripts", shellcheck);
});

function check(title: string, [program, ...args]: readonly [string, ...string[]]): Promise<void> {
  return step(title, () => {
    const result = spawnSync(path.join(projectRoot, "node_modules/.bin", program), args, {
      cwd: projectRoot,
      encoding: "utf8",
    });
    if (result.status !== 0) throw new UserError(`${title} do not pass:\n${result.stdout}${result.stderr}`);
    return Promise.resolve();
  });
}

async function shellcheck(): Promise<void> {
  const scripts = fs
    .readdirSync(path.join(projectRoot, "scripts"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".sh"))
    .map((file) => path.join("scripts", file));
  if (findProgram("shellcheck")) {
    const result = spawnSync("shellcheck", scripts, { cwd: projectRoot, encoding: "utf8" });
    if (result.status !== 0) throw new UserError(`shellcheck found:\n${result.stdout}${result.stderr}`);
  } else {
    await nodeTools(); // it is among them
    runInNodeSystem(projectRoot, `shellcheck ${scripts.join(" ")}`);
  }
}
