import * as pulumi from "@pulumi/pulumi";
import { MockMonitor } from "@pulumi/pulumi/runtime/mocks";

/** What the engine is asked to register: Pulumi's own mocks show the inputs alone, not the options. */
export interface Registration {
  readonly type: string;
  readonly name: string;
  readonly urn: string;
  readonly custom: boolean;
  readonly parent: string;
  readonly provider: string;
  readonly inputs: Record<string, unknown>;
  readonly protect: boolean;
  readonly retainOnDelete: boolean;
  readonly importId: string;
  readonly ignoreChanges: readonly string[];
  readonly dependencies: readonly string[];
  readonly beforeDelete: readonly string[];
}

/** The part of the protocol's request that the recorder reads. */
interface RegisterResourceRequest {
  getType(): string;
  getName(): string;
  getCustom(): boolean;
  getParent(): string;
  getProvider(): string;
  getObject(): { toJavaScript(): Record<string, unknown> };
  getProtect(): boolean;
  getRetainondelete(): boolean;
  getImportid(): string;
  getIgnorechangesList(): string[];
  getDependenciesList(): string[];
  getHooks(): { getBeforeDeleteList(): string[] } | undefined;
}

interface RegisterResourceResponse {
  getUrn(): string;
}

type Callback<T> = (error: Error | null, response: T) => void;

export class Program<T> {
  constructor(
    readonly registrations: readonly Registration[],
    readonly hooks: readonly string[],
    readonly result: T,
  ) {}

  /** The only registration of a type, or of a type and a name. */
  find(type: string, name?: string): Registration {
    const found = this.all(type).filter((registration) => name === undefined || registration.name === name);
    if (found.length !== 1) throw new Error(`${found.length} registrations of ${type} ${name ?? ""}`);
    return found[0]!;
  }

  all(type: string): Registration[] {
    return this.registrations.filter((registration) => registration.type === type);
  }
}

let registrations: Registration[] = [];
let hooks: string[] = [];

/* eslint-disable @typescript-eslint/unbound-method -- called with its own monitor below */
const register = MockMonitor.prototype.registerResource;
/* eslint-enable @typescript-eslint/unbound-method */
Object.assign(MockMonitor.prototype, {
  registerResource(
    this: MockMonitor,
    req: RegisterResourceRequest,
    done: Callback<RegisterResourceResponse>,
  ) {
    return register.call(this, req, (error: Error | null, response: RegisterResourceResponse) => {
      if (!error) registrations.push(read(req, response.getUrn()));
      done(error, response);
    });
  },
  registerResourceHook(req: { getName(): string }, done: Callback<object>) {
    hooks.push(req.getName());
    done(null, {});
  },
});

/** Runs a program on Pulumi's mocks and returns what it registered. */
export async function deploy<T>(program: () => T | Promise<T>): Promise<Program<T>> {
  registrations = [];
  hooks = [];
  await pulumi.runtime.setMocks(
    {
      newResource: ({ name, type, inputs, id }) => ({
        id: id || `${name}-id`,
        state: {
          ...(inputs as object),
          ...(type === "random:index/randomPassword:RandomPassword" ? { result: "generated" } : {}),
        },
      }),
      call: ({ inputs }) => inputs as Record<string, unknown>,
    },
    "durable-postgres",
    "test",
  );
  const result = await program();
  await pulumi.runtime.disconnect();
  return new Program(registrations, hooks, result);
}

/** The value of an output. */
export function valueOf<T>(output: pulumi.Output<T>): Promise<T> {
  return new Promise((resolve) => output.apply(resolve));
}

function read(req: RegisterResourceRequest, urn: string): Registration {
  return {
    type: req.getType(),
    name: req.getName(),
    urn,
    custom: req.getCustom(),
    parent: req.getParent(),
    provider: req.getProvider(),
    inputs: req.getObject().toJavaScript(),
    protect: req.getProtect(),
    retainOnDelete: req.getRetainondelete(),
    importId: req.getImportid(),
    ignoreChanges: req.getIgnorechangesList(),
    dependencies: req.getDependenciesList(),
    beforeDelete: req.getHooks()?.getBeforeDeleteList() ?? [],
  };
}
