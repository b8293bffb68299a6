import * as fs from "node:fs";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import * as os from "node:os";
import * as path from "node:path";

/** A Kubernetes API server reduced to GET of what a test puts into it, and a kubeconfig that leads to it. */
export class ApiServer {
  readonly objects = new Map<string, object>();
  /** If set, the status of every answer. */
  status?: number;
  readonly requests: string[] = [];

  private constructor(
    private readonly server: http.Server,
    private readonly folder: string,
    readonly kubeconfig: string,
  ) {}

  static async start(): Promise<ApiServer> {
    const server = http.createServer((req, res) => api.answer(req, res));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "api-server-"));
    const kubeconfig = path.join(folder, "kubeconfig");
    fs.writeFileSync(
      kubeconfig,
      JSON.stringify({
        clusters: [
          { name: "fake", cluster: { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true } },
          { name: "other", cluster: { server: "https://production.example" } },
        ],
        users: [
          { name: "tester", user: { token: "token-of-tester" } },
          { name: "admin", user: { token: "token-of-admin" } },
        ],
        contexts: [
          { name: "sandbox", context: { cluster: "fake", user: "tester" } },
          { name: "production", context: { cluster: "other", user: "admin" } },
        ],
        "current-context": "production",
      }),
    );
    const api = new ApiServer(server, folder, kubeconfig);
    return api;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
    fs.rmSync(this.folder, { recursive: true });
  }

  private answer(req: http.IncomingMessage, res: http.ServerResponse): void {
    this.requests.push(`${req.method} ${req.url}`);
    const object = this.objects.get(req.url ?? "");
    const status = this.status ?? (object ? 200 : 404);
    res.writeHead(status, { "content-type": "application/json" });
    res.end(JSON.stringify(status === 200 ? object : { kind: "Status", code: status }));
  }
}
