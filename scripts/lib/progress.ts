import ora from "ora";

const HEARTBEAT_MS = 30_000;
const QUIET_BELOW_SECONDS = 0.5;

/**
 * Runs one step of a longer command and shows it with the time it has taken so
 * far: a spinner on a terminal; elsewhere a line every 30 s and one at its end.
 *
 * @param options.ownOutput the work prints its own progress: show only the end
 */
export async function step<T>(
  title: string,
  work: () => Promise<T>,
  options: { readonly ownOutput?: boolean } = {},
): Promise<T> {
  const started = Date.now();
  const elapsed = () => formatSeconds((Date.now() - started) / 1000);
  // Some terminals do not know their width; a spinner cannot be drawn on them.
  const spins = process.stdout.isTTY && process.stdout.columns > 0 && !options.ownOutput;
  const spinner = ora({ isSilent: !spins, stream: process.stdout, discardStdin: false });
  const show = () => {
    if (spins) spinner.text = `${title} (${elapsed()})`;
    else if (!options.ownOutput) console.log(`… ${title} (${elapsed()})`);
  };
  const timer = setInterval(show, spins ? 1_000 : HEARTBEAT_MS);
  if (spins) spinner.start(title);
  try {
    const result = await work();
    spinner.stop();
    if ((Date.now() - started) / 1000 >= QUIET_BELOW_SECONDS) console.log(`✓ ${title} (${elapsed()})`);
    return result;
  } catch (error) {
    spinner.stop();
    console.log(`✗ ${title} (${elapsed()})`);
    throw error;
  } finally {
    clearInterval(timer);
  }
}

/** Seconds as people read them: `4.2 s`, `3 min 05 s`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}
