// dockerode against the daemon of $DOCKER_HOST; the archive of busybox:latest is the first argument.
import assert from 'node:assert/strict'
import { createReadStream, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { PassThrough } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { execFileSync } from 'node:child_process'
import process from 'node:process'

// Modules are those of NODE_PATH, where npm has put them.
const Docker = createRequire(process.env.NODE_PATH + '/')('dockerode')
const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') })
const host = { HostConfig: { NetworkMode: 'none' } }
const long = { ...host, Image: 'busybox', Cmd: ['sleep', '1000'] }

const fails = (code, pattern, promise) =>
  assert.rejects(promise, (e) => {
    assert.equal(e.statusCode, code, e.message)
    assert.match(e.json?.message ?? e.message, pattern)
    return true
  })
const done = (stream) => new Promise((resolve, reject) => docker.modem.followProgress(stream, (err, out) => (err ? reject(err) : resolve(out))))

// demux collects both streams until the end.
async function demux(stream) {
  const out = new PassThrough()
  const err = new PassThrough()
  docker.modem.demuxStream(stream, out, err)
  stream.on('end', () => (out.end(), err.end()))
  return Promise.all([text(out), text(err)])
}

const parts = {
  async images() {
    const progress = await done(await docker.loadImage(createReadStream(process.argv[2])))
    assert.match(JSON.stringify(progress), /Loaded image: busybox:latest/)
    const image = docker.getImage('busybox')
    assert.deepEqual((await image.inspect()).Config.Cmd, ['sh'])
    await image.tag({ repo: 'example.org/name', tag: 'v1' })
    const saved = await buffer(await docker.getImage('example.org/name:v1').get())
    await docker.getImage('example.org/name:v1').remove()
    assert.match(JSON.stringify(await done(await docker.loadImage(saved))), /Loaded image: example.org\/name:v1/)
    assert.equal((await docker.listImages({ filters: { reference: ['example.org/name'] } })).length, 1)
    await docker.getImage('example.org/name:v1').remove()
    await fails(404, /no such image/i, docker.getImage('absent').inspect())
  },
  async system() {
    assert.equal(String(await docker.ping()), 'OK')
    assert.equal((await docker.info()).OSType, 'linux')
    assert.ok((await docker.version()).ApiVersion)
    const df = await docker.df()
    assert.ok(df.ImageUsage ? df.ImageUsage.TotalCount > 0 : df.Images.length > 0) // the first in API 1.52 and later
  },
  async lifecycle() {
    const c = await docker.createContainer({ ...host, name: 'js-life', Image: 'busybox', StopSignal: 'SIGUSR1', Labels: { who: 'js' },
      Cmd: ['sh', '-c', 'trap "exit 7" USR1; echo up; while :; do sleep 0.05; done'] })
    await c.start()
    await new Promise(async (resolve) => (await c.logs({ follow: true, stdout: true })).once('data', resolve))
    await c.pause()
    assert.equal((await c.inspect()).State.Status, 'paused')
    await c.unpause()
    assert.ok((await c.top()).Processes.length > 0)
    await c.update({ Memory: 64 << 20, MemorySwap: 128 << 20 })
    assert.equal((await c.inspect()).HostConfig.Memory, 64 << 20)
    await c.rename({ name: 'js-renamed' })
    assert.deepEqual((await docker.listContainers({ filters: { label: ['who=js'] } })).map((x) => x.Names), [['/js-renamed']])
    await c.stop({ t: 10 })
    assert.equal((await c.wait()).StatusCode, 7)
    await fails(304, /.*/, c.stop())
    await c.restart({ t: 0 })
    await fails(409, /./, c.remove())
    await fails(409, /already in use/, docker.createContainer({ ...long, name: 'js-renamed' }))
    await c.kill()
    await c.wait()
    await c.remove()
    await fails(404, /no such container/i, c.inspect())
    await fails(404, /no such image/i, docker.createContainer({ Image: 'absent' }))
    await fails(400, /./, docker.createContainer({ ...long, HostConfig: { NetworkMode: 'none', Memory: 1 } }))
    const out = new PassThrough()
    const collected = text(out)
    const [end] = await docker.run('busybox', ['sh', '-c', 'echo ran; exit 5'], out, { Tty: true, HostConfig: { NetworkMode: 'none', AutoRemove: true } })
    assert.equal(end.StatusCode, 5)
    out.end()
    assert.equal(await collected, 'ran\r\n')
  },
  async streams() {
    const c = await docker.createContainer({ ...long, Cmd: ['sh', '-c', 'echo out; echo err >&2; exec sleep 1000'] })
    await c.start()
    const started = await c.exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true, AttachStderr: true })
    const stream = await started.start({ hijack: true, stdin: true })
    stream.write('over the wire\n')
    stream.end()
    assert.deepEqual(await demux(stream), ['over the wire\n', ''])
    assert.equal((await started.inspect()).ExitCode, 0)
    const failing = await c.exec({ Cmd: ['sh', '-c', 'echo o; echo e >&2; exit 4'], AttachStdout: true, AttachStderr: true })
    assert.deepEqual(await demux(await failing.start({})), ['o\n', 'e\n'])
    assert.equal((await failing.inspect()).ExitCode, 4)
    const stats = await c.stats({ stream: false })
    assert.ok(stats.memory_stats.usage > 0)
    const log = (await c.logs({ stdout: true, stderr: false })).toString()
    assert.match(log, /out\n$/)
    await c.remove({ force: true })

    const cat = await docker.createContainer({ ...long, Cmd: ['cat'], OpenStdin: true, StdinOnce: true })
    const attached = await cat.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true })
    await cat.start()
    attached.write('attached\n')
    attached.end()
    assert.deepEqual(await demux(attached), ['attached\n', ''])
    assert.equal((await cat.wait()).StatusCode, 0)
    await cat.remove()
  },
  async events() {
    const stream = await docker.getEvents({ filters: { label: ['who=events'], type: ['container'] } })
    const seen = []
    const destroyed = new Promise((resolve) => stream.on('data', (chunk) => {
      for (const line of chunk.toString().split('\n').filter(Boolean)) {
        seen.push(JSON.parse(line).Action)
        if (seen.includes('destroy')) resolve()
      }
    }))
    const c = await docker.createContainer({ ...long, Cmd: ['true'], Labels: { who: 'events' } })
    await c.start()
    await c.wait()
    await c.remove()
    await destroyed
    stream.destroy()
    assert.deepEqual(seen.filter((a) => ['create', 'start', 'die', 'destroy'].includes(a)), ['create', 'start', 'die', 'destroy'])
  },
  async files() {
    const c = await docker.createContainer(long)
    await c.putArchive(execFileSync('tar', ['-C', '/etc', '-c', 'hostname']), { path: '/tmp' })
    const back = execFileSync('tar', ['-xO'], { input: await buffer(await c.getArchive({ path: '/tmp/hostname' })) })
    assert.deepEqual(back, readFileSync('/etc/hostname'))
    await fails(404, /./, c.getArchive({ path: '/absent' }))
    assert.ok((await c.changes()).some((x) => x.Path === '/tmp/hostname'))
    await c.remove()
  },
  async volumes() {
    await docker.createVolume({ Name: 'js-data', Labels: { a: 'b' } })
    assert.deepEqual((await docker.getVolume('js-data').inspect()).Labels, { a: 'b' })
    const c = await docker.createContainer({ ...long, HostConfig: { NetworkMode: 'none', Binds: ['js-data:/data'] } })
    await fails(409, /volume is in use/, docker.getVolume('js-data').remove())
    await c.remove()
    await docker.getVolume('js-data').remove()
    await fails(404, /no such volume/, docker.getVolume('js-data').inspect())
  },
  async networks() {
    const n = await docker.createNetwork({ Name: 'js-net', Driver: 'bridge' })
    const c = await docker.createContainer({ Image: 'busybox', name: 'js-server', Cmd: ['sleep', '1000'], HostConfig: { NetworkMode: 'js-net' } })
    await c.start()
    assert.deepEqual(Object.values((await n.inspect()).Containers).map((x) => x.Name), ['js-server'])
    await n.disconnect({ Container: 'js-server', Force: true })
    await n.connect({ Container: 'js-server', EndpointConfig: { Aliases: ['other'] } })
    await c.remove({ force: true })
    await n.remove()
    await fails(404, /not found/, n.inspect())
  },
}

for (const [name, part] of Object.entries(parts)) {
  if (process.argv.slice(3).includes(name)) continue
  await part()
  console.log('ok', name)
}
assert.deepEqual(await docker.listContainers({ all: true }), [])
process.exit(0)
