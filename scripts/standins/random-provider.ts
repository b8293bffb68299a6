import * as grpc from "@grpc/grpc-js";
import { PluginInfo } from "@pulumi/pulumi/proto/plugin_pb";
import { ResourceProviderService } from "@pulumi/pulumi/proto/provider_grpc_pb";
import {
  CheckFailure,
  type CheckRequest,
  CheckResponse,
  ConfigureResponse,
  type CreateRequest,
  CreateResponse,
  type DeleteRequest,
  type DiffRequest,
  DiffResponse,
  type ReadRequest,
  ReadResponse,
} from "@pulumi/pulumi/proto/provider_pb";
import { version } from "@pulumi/random/package.json";
import { hash } from "bcryptjs";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { type JavaScriptValue, Struct } from "google-protobuf/google/protobuf/struct_pb";
import {
  changedSettings,
  checkInputs,
  effectiveSettings,
  generatePassword,
  type Inputs,
  UNKNOWN,
} from "./password";
import { refusal, servePlugin, withRefusals } from "./serve";

/**
 * A stand-in for the random provider, for a machine that cannot get the real
 * one. It has `RandomPassword` and refuses everything else.
 *
 * Sources: the service is the SDK's own generated code (proto/provider_*), the
 * properties are those of the published schema. What goes over the wire
 * follows the recordings in pulumi/pulumi-random (provider/testdata/recorded),
 * down to id and `__meta`, so that the real provider can take over the state.
 */

const TYPE = "random:index/randomPassword:RandomPassword";
const ID = "none";
const BCRYPT_COST = 10; // as the real provider

/** A secret as the SDK writes it on the wire (runtime/rpc.js). */
const secret = (value: string) => ({
  "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
  value,
});

type Unary<Request> = (request: Request) => unknown;

function unary<Request>(method: Unary<Request>): grpc.handleUnaryCall<Request, unknown> {
  return (call, callback) => {
    Promise.resolve(call.request)
      .then(method)
      .then(
        (response) => callback(null, response),
        (error: Error & { code?: grpc.status }) =>
          callback(refusal(error.code ?? grpc.status.UNKNOWN, error.message)),
      );
  };
}

/** A method on a resource, which must be a RandomPassword. */
function onPassword<Request extends { getUrn(): string }>(method: Unary<Request>) {
  return unary((request: Request) => {
    // urn:pulumi:<stack>::<project>::<parent types>$<type>::<name>
    const type = request.getUrn().split("::")[2]?.split("$").at(-1);
    if (type === TYPE) return method(request);
    throw refusal(
      grpc.status.FAILED_PRECONDITION,
      `The stand-in for the random provider has no ${type}, only RandomPassword: ` +
        `use that, or install the real provider (pulumi plugin install resource random ${version}).`,
    );
  });
}

const values = (struct: Struct | undefined): Inputs => struct?.toJavaScript() ?? {};
const struct = (object: object) => Struct.fromJavaScript(object as Record<string, JavaScriptValue>);

/** The state of a password, complete as the real provider writes it. */
function state(inputs: Inputs, result: unknown, bcryptHash: unknown): Struct {
  const settings = effectiveSettings(inputs);
  return struct({
    __meta: JSON.stringify({ schema_version: "3" }),
    id: ID,
    ...settings,
    number: settings.numeric,
    result,
    bcryptHash,
  });
}

async function newState(inputs: Inputs, password: string): Promise<Struct> {
  return state(inputs, secret(password), secret(await hash(password, BCRYPT_COST)));
}

function check(request: CheckRequest): CheckResponse {
  const inputs = values(request.getNews());
  const failures = checkInputs(inputs).map(({ property, reason }) =>
    new CheckFailure().setProperty(property).setReason(`${property} ${reason}`),
  );
  return new CheckResponse().setInputs(request.getNews()).setFailuresList(failures);
}

function diff(request: DiffRequest): DiffResponse {
  const changed = changedSettings(values(request.getOlds()), values(request.getNews()));
  const { DIFF_SOME, DIFF_NONE } = DiffResponse.DiffChanges;
  return new DiffResponse()
    .setChanges(changed.length > 0 ? DIFF_SOME : DIFF_NONE)
    .setDiffsList(changed)
    .setReplacesList(changed);
}

async function create(request: CreateRequest): Promise<CreateResponse> {
  const inputs = values(request.getProperties());
  if (request.getPreview()) return new CreateResponse().setProperties(state(inputs, UNKNOWN, UNKNOWN));
  const properties = await newState(inputs, generatePassword(effectiveSettings(inputs)));
  return new CreateResponse().setId(ID).setProperties(properties);
}

/**
 * There is nothing outside the state to read. Without a state this is an
 * import, where the documented id is the password itself.
 */
async function read(request: ReadRequest): Promise<ReadResponse> {
  const known = values(request.getProperties());
  if (typeof known.result === "string" && typeof known.bcryptHash === "string") {
    return new ReadResponse()
      .setId(request.getId())
      .setProperties(state(known, secret(known.result), secret(known.bcryptHash)))
      .setInputs(request.getInputs());
  }
  const password = request.getId();
  const inputs = { length: [...password].length };
  return new ReadResponse()
    .setId(ID)
    .setProperties(await newState(inputs, password))
    .setInputs(struct(inputs));
}

const handlers = withRefusals(
  ResourceProviderService,
  {
    getPluginInfo: unary(() => new PluginInfo().setVersion(version)),
    checkConfig: unary((request: CheckRequest) => new CheckResponse().setInputs(request.getNews())),
    diffConfig: unary(() => new DiffResponse().setChanges(DiffResponse.DiffChanges.DIFF_NONE)),
    // Like the real provider it takes no secrets: the engine then unwraps the
    // inputs and marks outputs of the same name as secret again by itself.
    configure: unary(() => new ConfigureResponse().setSupportspreview(true).setAcceptresources(true)),
    check: onPassword(check),
    diff: onPassword(diff),
    create: onPassword(create),
    read: onPassword(read),
    delete: onPassword<DeleteRequest>(() => new Empty()), // the password is in the state alone
    cancel: unary(() => new Empty()),
  },
  (method) =>
    `The stand-in for the random provider does not implement ${method}: ` +
    `install the real provider (pulumi plugin install resource random ${version}).`,
);

void servePlugin(ResourceProviderService, handlers);
