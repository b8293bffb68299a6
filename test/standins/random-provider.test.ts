import * as assert from "node:assert/strict";
import { ResourceProviderService } from "@pulumi/pulumi/proto/provider_grpc_pb";
import {
  CheckRequest,
  CreateRequest,
  type CreateResponse,
  DeleteRequest,
  DiffRequest,
  DiffResponse,
  ReadRequest,
  UpdateRequest,
} from "@pulumi/pulumi/proto/provider_pb";
import { compareSync } from "bcryptjs";
import * as fc from "fast-check";
import { type JavaScriptValue, Struct } from "google-protobuf/google/protobuf/struct_pb";
import { installRandomProvider } from "../../scripts/standins/install";
import {
  changedSettings,
  checkInputs,
  effectiveSettings,
  generatePassword,
  type Inputs,
  UNKNOWN,
} from "../../scripts/standins/password";
import { call, type PluginProcess, startPlugin, temporaryFolder } from "./helpers";

const CLASSES = [
  { flag: "upper", least: "minUpper", characters: "ABCDEFGHIJKLMNOPQRSTUVWXYZ" },
  { flag: "lower", least: "minLower", characters: "abcdefghijklmnopqrstuvwxyz" },
  { flag: "numeric", least: "minNumeric", characters: "0123456789" },
  { flag: "special", least: "minSpecial", characters: "!@#$%&*()-_=+[]{}<>:?" },
] as const;

/** Inputs that pass the check: every class may be off, minimums fit into the length. */
const validInputs = fc
  .tuple(...CLASSES.map(() => fc.record({ on: fc.boolean(), least: fc.nat(6) })), fc.nat(20))
  .filter((choice) => choice.slice(0, 4).some((entry) => (entry as { on: boolean }).on))
  .map((choice) => {
    const extra = choice[4] as number;
    const inputs: Record<string, number | boolean> = {};
    let sum = 0;
    for (const [index, { flag, least }] of CLASSES.entries()) {
      const entry = choice[index] as { on: boolean; least: number };
      inputs[flag] = entry.on;
      if (entry.on) sum += inputs[least] = entry.least;
    }
    const valid: Inputs & { length: number } = { ...inputs, length: Math.max(1, sum + extra) };
    return valid;
  });

const count = (password: string, characters: string) =>
  [...password].filter((character) => characters.includes(character)).length;

describe("stand-in for the random provider: passwords", () => {
  it("have their length, enough of each class, and nothing of a class that is off", () => {
    fc.assert(
      fc.property(validInputs, (inputs) => {
        assert.deepEqual(checkInputs(inputs), []);
        const password = generatePassword(effectiveSettings(inputs));
        assert.equal([...password].length, inputs.length);
        let known = 0;
        for (const { flag, least, characters } of CLASSES) {
          const found = count(password, characters);
          known += found;
          if (inputs[flag]) assert.ok(found >= (inputs[least] as number));
          else assert.equal(found, 0);
        }
        assert.equal(known, inputs.length);
      }),
    );
  });

  it("take special characters from overrideSpecial alone, also beyond ASCII", () => {
    const override = fc.array(fc.constantFrom("-", "_", "é", "𝄞", "~"), { minLength: 1 });
    fc.assert(
      fc.property(override, fc.integer({ min: 1, max: 40 }), (characters, length) => {
        const overrideSpecial = characters.join("");
        const inputs = { length, overrideSpecial, upper: false, lower: false, numeric: false };
        const password = generatePassword(effectiveSettings(inputs));
        assert.equal([...password].length, length);
        assert.equal(count(password, overrideSpecial), length);
      }),
    );
  });

  it("use every character about equally often, and required ones in every place", () => {
    // 160 000 draws over 10 digits: 16 000 each, standard deviation 120. The
    // bound is ten of those, which chance does not reach in the age of the world.
    const digits = { length: 400, upper: false, lower: false, special: false };
    const text = Array.from({ length: 400 }, () => generatePassword(effectiveSettings(digits))).join("");
    for (const digit of "0123456789") assert.ok(Math.abs(count(text, digit) - 16_000) < 1200, digit);

    // The one digit among lower case letters: 8000 draws over 8 places, 1000 each, deviation 30.
    const places = new Array<number>(8).fill(0);
    const one = effectiveSettings({ length: 8, upper: false, special: false, minLower: 7, minNumeric: 1 });
    for (let draw = 0; draw < 8000; draw++) {
      const place = generatePassword(one).search(/\d/);
      places[place] = (places[place] ?? 0) + 1;
    }
    for (const place of places) assert.ok(Math.abs(place - 1000) < 300, places.join());
  });

  it("are checked in sentences that name the property", () => {
    const wrong = (inputs: Inputs) =>
      checkInputs(inputs).map(({ property, reason }) => `${property} ${reason}`);
    assert.deepEqual(wrong({}), ["length is required."]);
    assert.deepEqual(wrong({ length: 0 }), ["length must be a whole number of at least 1, not 0."]);
    assert.deepEqual(wrong({ length: 1.5 }), ["length must be a whole number of at least 1, not 1.5."]);
    assert.deepEqual(wrong({ length: 8, minUpper: -1 }), [
      "minUpper must be a whole number of at least 0, not -1.",
    ]);
    assert.deepEqual(wrong({ length: 8, upper: "yes" }), ['upper must be true or false, not "yes".']);
    assert.deepEqual(wrong({ length: 8, overrideSpecial: 3 }), ["overrideSpecial must be a string."]);
    assert.deepEqual(wrong({ length: 8, keepers: { a: 1 } }), ['keepers["a"] must be a string.']);
    assert.deepEqual(wrong({ length: 8, lenght: 9 }), ["lenght is not a property of RandomPassword."]);
    assert.match(
      wrong({ length: 3, minUpper: 2, minLower: 2 }).join(),
      /^length is 3, .* ask for 4 together/,
    );
    assert.match(wrong({ length: 3, minUpper: 1, upper: false }).join(), /^minUpper .* upper: false forbids/);
    assert.match(wrong({ length: 3, number: true, numeric: false }).join(), /^number .* remove it/);
    assert.match(
      wrong({ length: 3, upper: false, lower: false, number: false, special: false }).join(),
      /no character is left/,
    );
  });

  it("are not judged by what is not known yet", () => {
    assert.deepEqual(checkInputs({ length: UNKNOWN, minUpper: 9, keepers: { a: UNKNOWN } }), []);
    assert.deepEqual(checkInputs({ length: 8, keepers: UNKNOWN }), []);
  });

  it("are replaced for a changed setting, and not for a default that is written out", () => {
    assert.deepEqual(changedSettings({ length: 8 }, { length: 9 }), ["length"]);
    assert.deepEqual(
      changedSettings({ length: 8, keepers: { a: "1" } }, { length: 8, keepers: { a: "2" } }),
      ["keepers"],
    );
    assert.deepEqual(changedSettings({ length: 8 }, { length: 8, overrideSpecial: "-" }), [
      "overrideSpecial",
    ]);
    assert.deepEqual(
      changedSettings({ length: 8 }, { length: 8, upper: true, minLower: 0, number: true, keepers: {} }),
      [],
    );
  });
});

describe("stand-in for the random provider: protocol", function () {
  this.timeout(30_000);
  const { folder, remove } = temporaryFolder();
  const URN = "urn:pulumi:dev::shop::shop:Db$random:index/randomPassword:RandomPassword::admin";
  let provider: PluginProcess;

  before(async () => {
    provider = await startPlugin(installRandomProvider(folder, process.execPath));
  });
  after(() => {
    provider?.child.kill("SIGINT");
    remove();
  });

  const service = ResourceProviderService;
  const struct = (value: Record<string, JavaScriptValue>) => Struct.fromJavaScript(value);
  const revealed = (value: unknown) => {
    const { "4dabf18193072939515e22adb298388d": signature, value: text } = value as Record<string, string>;
    assert.equal(signature, "1b47061264138c4ac30d75fd1eb44270");
    return text ?? "";
  };

  async function create(inputs: Record<string, JavaScriptValue>, preview = false): Promise<CreateResponse> {
    const request = new CreateRequest().setUrn(URN).setProperties(struct(inputs)).setPreview(preview);
    const { response, error } = await call(provider.port, service.create, request);
    assert.ifError(error);
    return response as CreateResponse;
  }

  it("creates a password with its hash, both secret, and the state of the real provider", async () => {
    const created = await create({ length: 20, special: false });
    assert.equal(created.getId(), "none");
    const { result, bcryptHash, ...rest } = created.getProperties()?.toJavaScript() ?? {};
    assert.match(revealed(result), /^[A-Za-z0-9]{20}$/);
    assert.ok(compareSync(revealed(result), revealed(bcryptHash)));
    assert.deepEqual(rest, {
      __meta: '{"schema_version":"3"}',
      id: "none",
      length: 20,
      upper: true,
      lower: true,
      numeric: true,
      number: true,
      special: false,
      minUpper: 0,
      minLower: 0,
      minNumeric: 0,
      minSpecial: 0,
    });
  });

  it("generates nothing in a preview", async () => {
    const properties = (await create({ length: 20 }, true)).getProperties()?.toJavaScript();
    assert.deepEqual([properties?.result, properties?.bcryptHash], [UNKNOWN, UNKNOWN]);
  });

  it("reports check failures with their property", async () => {
    const request = new CheckRequest().setUrn(URN).setNews(struct({ length: 0 }));
    const { response } = await call(provider.port, service.check, request);
    assert.deepEqual(
      response?.getFailuresList().map((failure) => failure.toObject()),
      [{ property: "length", reason: "length must be a whole number of at least 1, not 0." }],
    );
  });

  it("replaces for a changed input", async () => {
    const request = new DiffRequest()
      .setUrn(URN)
      .setOlds(struct({ length: 8, result: "x" }))
      .setNews(struct({ length: 9 }));
    const { response } = await call(provider.port, service.diff, request);
    assert.equal(response?.getChanges(), DiffResponse.DiffChanges.DIFF_SOME);
    assert.deepEqual(response?.getReplacesList(), ["length"]);
  });

  it("reads the state back, imports a password by its id, and deletes", async () => {
    const known = new ReadRequest()
      .setUrn(URN)
      .setId("none")
      .setProperties(struct({ length: 3, result: "abc", bcryptHash: "hash" }));
    const read = await call(provider.port, service.read, known);
    const properties = read.response?.getProperties()?.toJavaScript();
    assert.deepEqual([revealed(properties?.result), revealed(properties?.bcryptHash)], ["abc", "hash"]);

    const imported = await call(provider.port, service.read, new ReadRequest().setUrn(URN).setId("s3cret"));
    assert.equal(imported.response?.getId(), "none");
    assert.equal(revealed(imported.response?.getProperties()?.toJavaScript().result), "s3cret");
    assert.deepEqual(imported.response?.getInputs()?.toJavaScript(), { length: 6 });

    const gone = await call(provider.port, service.delete, new DeleteRequest().setUrn(URN));
    assert.ifError(gone.error);
  });

  it("refuses other types and methods in a sentence that says what to do", async () => {
    const urn = "urn:pulumi:dev::shop::random:index/randomId:RandomId::id";
    const other = await call(provider.port, service.create, new CreateRequest().setUrn(urn));
    assert.match(
      other.error?.details ?? "",
      /has no random:index\/randomId:RandomId, .*pulumi plugin install/,
    );
    const update = await call(provider.port, service.update, new UpdateRequest().setUrn(URN));
    assert.match(update.error?.details ?? "", /does not implement update: install the real provider/);
  });
});
