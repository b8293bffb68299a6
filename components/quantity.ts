const units = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50 };

/** The bytes in a Kubernetes quantity with a binary unit, such as `100Gi`; undefined for anything else. */
export function bytes(quantity: string): number | undefined {
  const match = /^([1-9]\d*)([KMGTP]i)$/.exec(quantity);
  return match ? Number(match[1]) * units[match[2] as keyof typeof units] : undefined;
}

/** The number of CPUs in a Kubernetes quantity, such as `500m` or `2`; undefined for anything else or for none. */
export function cpus(quantity: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(quantity);
  const amount = match ? Number(match[1]) / (match[2] ? 1000 : 1) : 0;
  return amount > 0 ? amount : undefined;
}
