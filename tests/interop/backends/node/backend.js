// A Greeter of grpc-js that reports its load by ORCA, with grpc-js's own
// ServerMetricRecorder. Nothing here knows of lookaside. One process is one
// backend; it obeys the lines on standard input (see ../../README.md).
'use strict';

const path = require('node:path');
const readline = require('node:readline');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { loadSync } = require('@grpc/proto-loader');
const { HealthImplementation } = require('grpc-health-check');

const PROTOS = path.join(__dirname, '../../../../proto/protos');

const { values: flags } = parseArgs({
  options: {
    listen: { type: 'string' },
    capacity: { type: 'string', default: '100' }, // calls a second
    report: { type: 'string', default: 'orca' },
  },
});

const tally = { calls: 0, without_token: 0, tokens: {} };

function sayHello(call, answer) {
  tally.calls += 1;
  const [token] = call.metadata.get('lb-token');
  if (token === undefined) {
    tally.without_token += 1;
  } else {
    tally.tokens[token] = (tally.tokens[token] ?? 0) + 1;
  }
  answer(null, { message: flags.listen });
}

// ORCA wants rates, and only the program knows them: those of the last second.
function record(recorder) {
  let before = tally.calls;
  setInterval(() => {
    const qps = tally.calls - before;
    before = tally.calls;
    recorder.setQpsMetric(qps);
    recorder.setApplicationUtilizationMetric(qps / Number(flags.capacity));
  }, 1000);
}

function obey(line, health) {
  switch (line) {
    case 'counts':
      return tally;
    case 'health serving':
      health.setStatus('', 'SERVING');
      return {};
    case 'health not_serving':
      health.setStatus('', 'NOT_SERVING');
      return {};
    default:
      return { error: `unknown command: ${line}` };
  }
}

const { helloworld } = grpc.loadPackageDefinition(
  loadSync('helloworld/helloworld.proto', { includeDirs: [PROTOS] }),
);
const server = new grpc.Server();
server.addService(helloworld.Greeter.service, { sayHello });
const health = new HealthImplementation({ '': 'SERVING' });
health.addToServer(server);
if (flags.report === 'orca') {
  const recorder = new grpc.ServerMetricRecorder();
  recorder.addToServer(server);
  record(recorder);
}
const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
server.bindAsync(flags.listen, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) {
    throw error;
  }
  say({ listening: flags.listen });
  readline
    .createInterface({ input: process.stdin })
    .on('line', (line) => say(obey(line, health)))
    .on('close', () => process.exit());
});
