/** The part of Node's `http.Server` that callers use. */
export interface MockServer {
  address(): { port: number };
  close(): void;
  closeAllConnections(): void;
}

/** Starts the mock on `port` of the loopback address (0 or none: any free port). */
export function serve(port?: number): Promise<MockServer>;
