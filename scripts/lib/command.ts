import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { SubprocessError } from "nano-spawn";
import { UserError } from "./user-error";

/** A program that got the same Ctrl-C may fail before this process hears of it: how long to wait, in milliseconds. */
const SIGNAL_MS = 100;
let interrupting = false;

/** Running programs that end in good order by themselves when they are interrupted. */
const orderly = new Set<ChildProcess>();

/** Makes an interrupted tool wait for the end of `child`, which gets the terminal's signal too. */
export function endsInOrder(child: ChildProcess): void {
  orderly.add(child);
  child.once("exit", () => orderly.delete(child));
}

/** What has to be taken back when the tool is interrupted. */
const undoing = new Set<() => Promise<void>>();

/** Runs `work`; if the tool is interrupted meanwhile, `undo` is run before it ends. */
export async function undoneWhenInterrupted<T>(
  undo: () => Promise<void>,
  work: () => Promise<T>,
): Promise<T> {
  undoing.add(undo);
  try {
    const result = await work();
    undoing.delete(undo);
    return result;
  } catch (error) {
    await delay(SIGNAL_MS);
    if (!interrupting) undoing.delete(undo);
    throw error;
  }
}

/**
 * Runs the body of a command line tool: what the user can act on is printed as
 * one sentence, anything else with its stack, and both exit with 1. A signal
 * ends the tool after the programs that {@link endsInOrder}, and after what it
 * has begun is {@link undoneWhenInterrupted}.
 */
export function main(body: () => Promise<void>): void {
  process.once("SIGINT", () => void interrupted(130)); // a terminal sends it to those programs too
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    process.once(signal, () => {
      orderly.forEach((child) => child.kill("SIGINT"));
      void interrupted(code);
    });
  }
  body().catch(async (error: unknown) => {
    await delay(SIGNAL_MS);
    if (interrupting) return; // it fails because of that, and the end is under way
    console.error(sentence(error) ?? error);
    process.exit(1);
  });
}

/** One sentence for an error that has one. */
function sentence(error: unknown): string | undefined {
  if (error instanceof UserError) return `error: ${error.message}`;
  if (error instanceof SubprocessError) return `error: ${error.message}\n${error.stderr || error.stdout}`;
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (path !== undefined && ["EACCES", "EPERM", "EROFS", "ENOSPC", "ENOTDIR"].includes(code ?? "")) {
    return `error: ${path} cannot be used (${syscall}: ${code}): make it writable, free some space, or set XDG_CACHE_HOME and XDG_STATE_HOME to other directories.`;
  }
  return undefined;
}

async function interrupted(code: number): Promise<never> {
  interrupting = true;
  process.once("SIGINT", () => process.exit(code)); // asked twice: do not wait
  await Promise.all([...orderly].map((child) => once(child, "exit")));
  await Promise.all([...undoing].map((undo) => undo()));
  console.error("\nInterrupted. Run the same command again: it goes on from here.");
  process.exit(code);
}
