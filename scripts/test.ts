import { spawn } from "node:child_process";
import * as path from "node:path";
import { holdLock } from "./lib/lock";
import { endsInOrder, main } from "./lib/command";
import { projectRoot, stateDir } from "./lib/paths";
import { findPulumi } from "./environment/pulumi";
import { sandboxParts } from "./toolchain/assemble";

/** Every test; options and files after `npm test --` go to mocha in place of all of them. */
main(async () => {
  // The tests' clusters have fixed names, so that the next run clears away what a killed one left.
  holdLock(stateDir("tests.lock"), "Another npm test of this user is running: wait until it has ended.");
  await sandboxParts();
  const { command } = await findPulumi();
  const args = process.argv.slice(2);
  const child = spawn(
    process.execPath,
    [
      path.join(projectRoot, "node_modules/mocha/bin/mocha.js"),
      ...["--reporter", path.join(__dirname, "test-reporter.cjs")],
      "--forbid-pending", // a test that could not run has not passed
      ...(args.length > 0 ? args : ["test/**/*.test.ts"]),
    ],
    { cwd: projectRoot, stdio: "inherit", env: { ...process.env, PULUMI_BIN: command } },
  );
  endsInOrder(child);
  process.exitCode = await new Promise<number>((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
});
