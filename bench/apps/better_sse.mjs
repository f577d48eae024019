// The application of the benchmark on better-sse and Node's own HTTP server.
//
//     node better_sse.mjs PORT FOLDER
//
// FOLDER is where better-sse is installed.
import http from "node:http";
import { createRequire } from "node:module";

const [port, folder] = process.argv.slice(2);
const { createSession, createChannel } = createRequire(`${folder}/`)("better-sse");
const channels = new Map();

function channel(name) {
  if (!channels.has(name)) channels.set(name, createChannel());
  return channels.get(name);
}

function made(sequence, size) {
  return `${sequence} ${process.hrtime.bigint()} `.padEnd(size, "x");
}

async function open(request, response, name) {
  channel(name).register(await createSession(request, response, { keepAlive: 15000 }));
}

async function publish(request, name) {
  const parts = [];
  for await (const part of request) parts.push(part);
  channel(name).broadcast(Buffer.concat(parts).toString());
}

function burst(query) {
  const [first, count, size] = ["first", "count", "size"].map((key) => Number(query.get(key)));
  for (let i = 0; i < count; i++) channel(query.get("channel")).broadcast(made(first + i, size));
}

function toEach(query) {
  for (let i = 0; i < Number(query.get("count")); i++) {
    channel(`c${i}`).broadcast(made(query.get("first"), 0));
  }
}

const server = http.createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  const name = url.searchParams.get("channel");
  if (url.pathname === "/stream") return open(request, response, name);
  if (url.pathname === "/publish") await publish(request, name);
  if (url.pathname === "/burst") burst(url.searchParams);
  if (url.pathname === "/private") toEach(url.searchParams);
  response.end("pong");
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
