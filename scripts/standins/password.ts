import { randomInt } from "node:crypto";
import { isDeepStrictEqual } from "node:util";

/**
 * The rules of `random.RandomPassword`, as the schema of @pulumi/random 4.21
 * publishes them: which characters, how many at least, and when a change needs
 * a new password (always).
 */

export type Inputs = Readonly<Record<string, unknown>>;

/** An input that the engine does not know yet, in a preview (the SDK's runtime/rpc.js). */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

export interface PasswordSettings {
  readonly length: number;
  readonly upper: boolean;
  readonly lower: boolean;
  readonly numeric: boolean;
  readonly special: boolean;
  readonly minUpper: number;
  readonly minLower: number;
  readonly minNumeric: number;
  readonly minSpecial: number;
  readonly overrideSpecial?: string;
  readonly keepers?: Readonly<Record<string, string>>;
}

export interface Failure {
  /** The path of the property. */
  readonly property: string;
  readonly reason: string;
}

const UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER = UPPER.toLowerCase();
const DIGITS = "0123456789";
const SPECIAL = "!@#$%&*()-_=+[]{}<>:?";

const FLAGS = ["upper", "lower", "numeric", "special"] as const;
const MINIMUMS = ["minUpper", "minLower", "minNumeric", "minSpecial"] as const;
const PROPERTIES = ["length", ...FLAGS, "number", ...MINIMUMS, "overrideSpecial", "keepers"] as const;

/** What is in effect once the schema's defaults are filled in. `number` is the old name of `numeric`. */
export function effectiveSettings(inputs: Inputs): PasswordSettings {
  const numeric = (inputs.numeric ?? inputs.number ?? true) as boolean;
  const given = inputs as Partial<PasswordSettings>;
  return {
    length: given.length as number,
    upper: given.upper ?? true,
    lower: given.lower ?? true,
    numeric,
    special: given.special ?? true,
    minUpper: given.minUpper ?? 0,
    minLower: given.minLower ?? 0,
    minNumeric: given.minNumeric ?? 0,
    minSpecial: given.minSpecial ?? 0,
    // Empty means unset, for both.
    ...(given.overrideSpecial && { overrideSpecial: given.overrideSpecial }),
    ...(given.keepers && Object.keys(given.keepers).length > 0 && { keepers: given.keepers }),
  };
}

/** Everything that is wrong with `inputs`. What is not known yet is not judged. */
export function checkInputs(inputs: Inputs): Failure[] {
  const failures = [...typeFailures(inputs)];
  const known = !PROPERTIES.some((name) => inputs[name] === UNKNOWN);
  return failures.length > 0 || !known ? failures : [...ruleFailures(inputs)];
}

function* typeFailures(inputs: Inputs): Generator<Failure> {
  const wrong = (property: string, reason: string): Failure => ({ property, reason });
  const value = (name: string) => (inputs[name] === UNKNOWN ? undefined : (inputs[name] ?? undefined));

  for (const name of Object.keys(inputs)) {
    if (!name.startsWith("__") && !(PROPERTIES as readonly string[]).includes(name)) {
      yield wrong(name, "is not a property of RandomPassword.");
    }
  }
  if (inputs.length === undefined || inputs.length === null) yield wrong("length", "is required.");
  for (const [name, least] of [["length", 1], ...MINIMUMS.map((name) => [name, 0] as const)] as const) {
    const number = value(name);
    if (number !== undefined && !(Number.isSafeInteger(number) && (number as number) >= least)) {
      yield wrong(name, `must be a whole number of at least ${least}, not ${JSON.stringify(number)}.`);
    }
  }
  for (const name of [...FLAGS, "number"]) {
    const flag = value(name);
    if (flag !== undefined && typeof flag !== "boolean") {
      yield wrong(name, `must be true or false, not ${JSON.stringify(flag)}.`);
    }
  }
  const special = value("overrideSpecial");
  if (special !== undefined && typeof special !== "string")
    yield wrong("overrideSpecial", "must be a string.");
  yield* keeperFailures(value("keepers") ?? {});
}

function* keeperFailures(keepers: unknown): Generator<Failure> {
  if (typeof keepers !== "object" || keepers === null || Array.isArray(keepers)) {
    yield { property: "keepers", reason: "must be a map of strings." };
    return;
  }
  for (const [key, keeper] of Object.entries(keepers)) {
    if (typeof keeper !== "string") yield { property: `keepers["${key}"]`, reason: "must be a string." };
  }
}

function* ruleFailures(inputs: Inputs): Generator<Failure> {
  const settings = effectiveSettings(inputs);
  if (inputs.number !== undefined && inputs.numeric !== undefined && inputs.number !== inputs.numeric) {
    yield { property: "number", reason: "is the old name of numeric and says the opposite: remove it." };
  }
  if (!FLAGS.some((name) => settings[name])) {
    yield {
      property: "upper",
      reason: "cannot be off together with lower, numeric and special: no character is left.",
    };
  }
  for (const [index, name] of MINIMUMS.entries()) {
    const flag = FLAGS[index] as (typeof FLAGS)[number];
    if (settings[name] > 0 && !settings[flag]) {
      yield { property: name, reason: `asks for ${settings[name]} characters that ${flag}: false forbids.` };
    }
  }
  const least = MINIMUMS.reduce((sum, name) => sum + settings[name], 0);
  if (least > settings.length) {
    yield {
      property: "length",
      reason: `is ${settings.length}, but minUpper, minLower, minNumeric and minSpecial ask for ${least} together.`,
    };
  }
}

/** The names of the settings that differ; each of them needs a new password. */
export function changedSettings(old: Inputs, next: Inputs): string[] {
  const [before, after] = [effectiveSettings(old), effectiveSettings(next)];
  const names = new Set([...Object.keys(before), ...Object.keys(after)]) as Set<keyof PasswordSettings>;
  return [...names].filter((name) => !isDeepStrictEqual(before[name], after[name]));
}

/**
 * A new password from the system's secure generator. `randomInt` has no modulo
 * bias, and the shuffle makes the places of the required characters as
 * unpredictable as the characters.
 */
export function generatePassword(settings: PasswordSettings): string {
  const special = settings.overrideSpecial ?? SPECIAL;
  const classes = [
    { chosen: settings.upper, characters: [...UPPER], least: settings.minUpper },
    { chosen: settings.lower, characters: [...LOWER], least: settings.minLower },
    { chosen: settings.numeric, characters: [...DIGITS], least: settings.minNumeric },
    { chosen: settings.special, characters: [...special], least: settings.minSpecial },
  ].filter(({ chosen }) => chosen);
  const alphabet = classes.flatMap(({ characters }) => characters);
  const required = classes.flatMap(({ characters, least }) => pick(characters, least));
  return shuffle([...required, ...pick(alphabet, settings.length - required.length)]).join("");
}

function pick(characters: readonly string[], count: number): string[] {
  return Array.from({ length: count }, () => characters[randomInt(characters.length)] as string);
}

/** Fisher-Yates. */
function shuffle(characters: string[]): string[] {
  for (let last = characters.length - 1; last > 0; last--) {
    const other = randomInt(last + 1);
    [characters[last], characters[other]] = [characters[other] as string, characters[last] as string];
  }
  return characters;
}
