// BullMQ on Redis or PostgreSQL, in Node: the verbs of side.py for it.
//
// Run with the folder of its node_modules as the current one, since modules are found from there.
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/package.json`);
const { Queue, Worker, createPostgresBackend, setDefaultBackendFactory } = require("bullmq");

const SETTLE = 300;
const [verb, text] = process.argv.slice(2);
const options = JSON.parse(text);
const patience = 1000 * (options.patience ?? 120);
const address = new URL(options.url);
const connection = address.protocol.startsWith("postgres")
  ? { connectionString: options.url, migrate: true }
  : { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
if (connection.connectionString) setDefaultBackendFactory(createPostgresBackend);
// The same clock as that of Python's perf_counter_ns: CLOCK_MONOTONIC.
const now = () => Number(process.hrtime.bigint());
const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const say = (answer) => console.log(JSON.stringify(answer));

async function produce(queue) {
  if (verb === "produce") {
    const before = [];
    const after = [];
    for (let number = 0; number < options.jobs; number += 1) {
      await rest(20 + Math.random() * 80);
      before.push(now());
      await queue.add("noop", { index: options.first + number });
      after.push(now());
    }
    return { before, after };
  }
  const begun = now();
  if (verb === "add") {
    for (let index = 0; index < options.jobs; index += 1) await queue.add("noop", { index });
  } else {
    for (let first = 0; first < options.jobs; first += 1000) {
      const count = Math.min(1000, options.jobs - first);
      await queue.addBulk(Array.from({ length: count }, (_, number) => ({ name: "noop", data: { index: first + number } })));
    }
  }
  const seconds = (now() - begun) / 1e9;
  return { rate: options.jobs / seconds, seconds };
}

function work() {
  const seen = new Array(options.jobs).fill(0);
  const begun = new Array(options.jobs).fill(0);
  let count = 0;
  const late = setTimeout(() => end(`${count} of ${options.jobs} jobs ran in ${patience / 1000} s`), patience);

  function end(reason) {
    if (reason) console.error(reason);
    process.exit(reason ? 1 : 0);
  }

  async function tell() {
    clearTimeout(late);
    await rest(SETTLE);
    const wrong = seen.filter((runs) => runs !== 1).length;
    if (wrong) end(`${wrong} of ${options.jobs} jobs did not run exactly once`);
    const last = begun.reduce((one, other) => Math.max(one, other));
    const first = begun.reduce((one, other) => Math.min(one, other));
    const seconds = (last - first) / 1e9;
    say({ rate: (options.jobs - 1) / seconds, seconds, begun: verb === "idle" ? begun : null });
    end();
  }

  new Worker(
    "bench",
    async (job) => {
      if (verb === "die") process.kill(process.pid, "SIGKILL");
      const { index } = job.data;
      begun[index] = now();
      seen[index] += 1;
      count += 1;
      if (count === 1 && verb === "idle") say({ first: begun[index] });
      if (count === options.jobs) void tell();
    },
    { connection, concurrency: options.slots },
  );
}

if (["drain", "idle", "die"].includes(verb)) {
  work();
} else {
  const queue = new Queue("bench", { connection });
  say(await produce(queue));
  await queue.close();
}
