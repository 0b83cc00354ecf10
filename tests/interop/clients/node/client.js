// A channel of grpc-js, which balances by what DNS says of the service. Nothing
// here knows of lookaside. It obeys the lines on standard input (see
// ../../README.md), but for those of a load.
'use strict';

const path = require('node:path');
const readline = require('node:readline');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { loadSync } = require('@grpc/proto-loader');

const PROTOS = path.join(__dirname, '../../../../proto/protos');
const DEADLINE = 5000; // ms

const { values: flags } = parseArgs({
  options: { service: { type: 'string' }, dns: { type: 'string' } },
});

const { helloworld } = grpc.loadPackageDefinition(
  loadSync('helloworld/helloworld.proto', { includeDirs: [PROTOS] }),
);
const greeter = new helloworld.Greeter(
  `dns://${flags.dns}/${flags.service}`,
  grpc.credentials.createInsecure(),
);

const more = (counts, key) => {
  counts[key] = (counts[key] ?? 0) + 1;
};

function hello(tally, waitForReady) {
  const metadata = new grpc.Metadata({ waitForReady });
  const deadline = Date.now() + DEADLINE;
  return new Promise((done) => {
    greeter.sayHello({ name: 'interop' }, metadata, { deadline }, (error, reply) => {
      more(tally.statuses, error ? grpc.status[error.code] : 'OK');
      if (error) {
        more(tally.messages, error.details);
      } else {
        more(tally.backends, reply.message);
      }
      done();
    });
  });
}

async function call(count, concurrency, waitForReady) {
  const tally = { backends: {}, statuses: {}, messages: {} };
  let left = count;
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await hello(tally, waitForReady);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return tally;
}

async function obey(line) {
  const [command, count, concurrency, wait] = line.split(' ');
  if (command !== 'call') {
    return { error: `unknown command: ${line}` };
  }
  return call(Number(count), Number(concurrency), wait === 'wait');
}

readline
  .createInterface({ input: process.stdin })
  .on('line', async (line) => process.stdout.write(`${JSON.stringify(await obey(line))}\n`))
  .on('close', () => process.exit());
