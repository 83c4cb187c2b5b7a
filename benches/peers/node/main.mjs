// BullMQ as a contestant of `cargo xtask bench`: called as `PROGRAM WORK JSON`, it speaks the line protocol that
// benches/src/contestant.rs describes.
import { createInterface } from 'node:readline'
import { Queue, Worker } from 'bullmq'

const [work, json] = process.argv.slice(2)
const params = JSON.parse(json)
const [host, port] = params.redis.split(':')
const connection = { host, port: Number(port), maxRetriesPerRequest: null }
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const say = (line) => process.stdout.write(line + '\n')

async function ready() {
  say('ready')
  await input.next()
}

async function untilStopped() {
  while (!(await input.next()).done);
  process.exit(0)
}

async function connected() {
  const queue = new Queue('default', { connection })
  await queue.waitUntilReady()
  return queue
}

async function produce(queue) {
  const data = { payload: 'x'.repeat(params.payload) }
  let next = 0
  const caller = async () => {
    while (next < params.n) {
      if (params.bulk > 0) {
        const count = Math.min(params.bulk, params.n - next)
        next += count
        await queue.addBulk(Array.from({ length: count }, () => ({ name: 'noop', data })))
      } else {
        next += 1
        await queue.add('noop', data)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.max(params.callers, 1) }, caller))
}

function worker(run, autorun) {
  // What is done is deleted, as its documentation advises for production.
  return new Worker('default', run, {
    connection,
    concurrency: params.concurrency,
    autorun,
    removeOnComplete: { count: 0 },
  })
}

// Counts runs, and says when the first one began and the last one ended.
function counted() {
  let started = 0
  let handled = 0
  return async () => {
    if (started++ === 0) say('first')
    if (++handled === params.n) say('handled')
  }
}

async function probes() {
  const delays = []
  const server = worker(async (job) => {
    if (job.data.sent !== undefined) delays.push(Math.round((performance.now() - job.data.sent) * 1000))
  }, true)
  const queue = await connected()
  await server.waitUntilReady()
  await ready()
  const until = performance.now() + params.seconds * 1000
  let count = 0
  let loaded = 0
  const began = performance.now()
  const adds = []
  for (let due = began; due < until; due += 1000 / params.rate) {
    const sleep = due - performance.now()
    if (sleep > 0) await new Promise((resolve) => setTimeout(resolve, sleep))
    adds.push(queue.add('noop', { sent: performance.now() }))
    count += 1
    const load = Math.floor(((performance.now() - began) / 1000) * params.load) - loaded
    if (load > 0) {
      loaded += load
      adds.push(queue.addBulk(Array.from({ length: load }, () => ({ name: 'noop', data: {} }))))
    }
  }
  await Promise.all(adds)
  for (let waited = 0; delays.length < count && waited < 20000; waited += 5) {
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  delays.sort((a, b) => a - b)
  const at = (perMille) => delays[Math.max(Math.ceil((delays.length * perMille) / 1000), 1) - 1] ?? 0
  const result = { count: delays.length, min_us: at(0), p50_us: at(500), p99_us: at(990), max_us: at(1000) }
  say('result ' + JSON.stringify(result))
}

switch (work) {
  case 'enqueue': {
    const queue = await connected()
    await ready()
    await produce(queue)
    say('handled')
    break
  }
  case 'drain': {
    const server = worker(counted(), false)
    await server.waitUntilReady()
    await ready()
    server.run()
    break
  }
  case 'both': {
    const queue = await connected()
    const server = worker(counted(), true)
    await server.waitUntilReady()
    await ready()
    await produce(queue)
    break
  }
  case 'latency':
    await probes()
    break
  case 'idle': {
    const server = worker(async () => {}, true)
    await server.waitUntilReady()
    await ready()
    break
  }
  default:
    throw new Error(`there is no work called ${work}`)
}
await untilStopped()
