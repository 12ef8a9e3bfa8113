// Runs a user's JavaScript in a process that serves this one run, already under the user's own uid.
// Descriptors: 3 the request (JSON), 4 the result pipe, 5 (warm only) ends when the request has been written.
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');
const { createRequire } = require('module');

const MAX_RESULT = 1024 * 1024;
const MAX_DEPTH = 200;
const FILENAME = '<handler>';

// User code may patch globals; what is needed afterwards is bound here.
const { stringify, parse } = JSON;
const { writeSync } = fs;
const { isFinite } = Number;
const { keys } = Object;
const { isArray } = Array;
const { from, concat, alloc } = Buffer;
const exit = process.reallyExit.bind(process);
const format = require('util').inspect;

class BadResult extends Error {}

function main(warm) {
  if (warm) {
    if (fs.readSync(5, Buffer.alloc(1)) === 0) exit(0); // given up before its run came
    fs.closeSync(5);
  }
  const size = fs.fstatSync(3).size;
  const request = Buffer.alloc(size);
  fs.readSync(3, request, 0, size, 0);
  fs.closeSync(3);
  const spec = parse(request.toString('utf8'));
  const send = channel(spec.nonce);
  process.on('uncaughtException', (error) => fail(error, send));
  process.on('unhandledRejection', (error) => fail(error, send));
  Object.assign(process.env, spec.env);
  process.argv = [process.argv[0], 'main.js', ...spec.args];
  if (spec.working_directory) process.chdir(path.join(process.cwd(), spec.working_directory));
  play(spec, send);
}

function channel(nonce) {
  const mark = from(nonce, 'hex');
  return (message) => {
    const body = from(stringify(message), 'utf8');
    const length = alloc(4);
    length.writeUInt32BE(body.length);
    const frame = concat([length, mark, body]);
    for (let at = 0; at < frame.length;) at += writeSync(4, frame, at);
  };
}

function play(spec, send) {
  const place = path.join(process.env.HOME, 'main.js');
  const require = createRequire(place);
  const module = { exports: {}, id: '.', filename: place, paths: [], require };
  const source = `${spec.code}\n;return typeof handler === "undefined" ? undefined : handler;`;
  const names = ['exports', 'require', 'module', '__filename', '__dirname'];
  const options = { filename: FILENAME };
  if (vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER) {
    options.importModuleDynamically = vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  }
  const program = vm.compileFunction(source, names, options);
  const local = program.call(module.exports, module.exports, require, module, place, process.env.HOME);
  const handler = local === undefined ? module.exports?.handler : local;
  if (handler === undefined) return; // a script: it ends when node has nothing left to do
  if (typeof handler !== 'function') throw new TypeError(`handler is not a function: it is of type ${typeof handler}`);
  send({ handler: true });
  Promise.resolve(handler(parse(spec.event))).then((value) => succeed(value, send), (error) => fail(error, send));
}

function succeed(value, send) {
  let text;
  try {
    check(value);
    text = stringify(value === undefined ? null : value);
  } catch (error) {
    return refuse('invalid_result', 'InvalidResult', String(error && error.message), send);
  }
  if (from(text, 'utf8').length > MAX_RESULT) {
    return refuse('output_limit', 'OutputLimit', `the return value is larger than ${MAX_RESULT} bytes of JSON`, send);
  }
  send({ outcome: 'ok', exit_code: 0, return_value: text });
  exit(0);
}

function refuse(outcome, type, message, send) {
  send({ outcome, exit_code: 0, error: { type, message, traceback: '' } });
  exit(0);
}

// JSON.stringify would turn NaN into null and drop functions; a result that isn't what was returned is refused.
function check(value) {
  const stack = [[value, 1]];
  while (stack.length) {
    const [item, depth] = stack.pop();
    if (depth > MAX_DEPTH) throw new BadResult(`the return value is nested deeper than ${MAX_DEPTH} levels, or refers to itself`);
    if (typeof item === 'number' && !isFinite(item)) throw new BadResult(`${item} has no form in JSON`);
    if (typeof item === 'function' || typeof item === 'symbol' || typeof item === 'bigint') {
      throw new BadResult(`a value of type ${typeof item} is not JSON serializable`);
    }
    if (item === null || typeof item !== 'object' || typeof item.toJSON === 'function') continue;
    if (isArray(item)) for (const child of item) stack.push([child, depth + 1]);
    else for (const key of keys(item)) stack.push([item[key], depth + 1]);
  }
}

function fail(error, send) {
  const described = describe(error);
  try { writeSync(2, described.traceback); } catch { /* stderr was closed by user code */ }
  send({ outcome: 'exception', exit_code: 1, error: described });
  exit(1);
}

function describe(error) {
  try {
    if (!(error instanceof Error)) {
      const text = cut(format(error), 8192);
      return { type: typeof error, message: text, traceback: `Uncaught ${text}\n` };
    }
    const lines = String(error.stack).split('\n');
    const ours = (line) => line.includes('[eval]') || /\(?node:/.test(line);
    const shown = lines.filter((line) => !(/^\s+at /.test(line) && ours(line))).join('\n');
    const type = error.name || 'Error';
    return { type: cut(String(type), 1024), message: cut(String(error.message), 8192), traceback: cut(shown, 65536) + '\n' };
  } catch {
    return { type: 'Error', message: 'the exception can\'t be shown', traceback: 'the exception can\'t be shown\n' };
  }
}

// The beginning, and no half of a character at its end.
function cut(text, most) {
  return text.length > most ? text.slice(0, most).replace(/[\ud800-\udbff]$/, '') : text;
}

main(process.argv[1] === 'warm');
