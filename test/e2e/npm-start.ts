import { spawn } from "node:child_process";
import { projectRoot } from "../../scripts/lib/paths";

/** Runs `npm start`; sends a signal to its process group when the output matches. */
export function npmStart(
  options: readonly string[],
  interrupt?: readonly [when: RegExp, signal: NodeJS.Signals],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; output: string }> {
  const child = spawn("npm", ["start", "--silent", "--", ...options], {
    ...{ cwd: projectRoot, detached: true, stdio: ["ignore", "pipe", "pipe"] as const },
    env: { ...process.env, ...env },
  });
  let output = "";
  let sent = false;
  const collect = (chunk: Buffer) => {
    output += chunk.toString();
    if (interrupt && !sent && interrupt[0].test(output)) {
      sent = true;
      process.kill(-child.pid!, interrupt[1]);
    }
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, output })));
}
