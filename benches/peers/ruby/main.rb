# frozen_string_literal: true

# Sidekiq as a contestant of `cargo xtask bench`: called as `PROGRAM WORK JSON`, it speaks the line protocol that
# benches/src/contestant.rs describes.
require "json"
require "sidekiq"
# Its connections are those of a server when this is loaded.
require "sidekiq/cli"
require "sidekiq/launcher"

WORK, PARAMS = ARGV[0], JSON.parse(ARGV[1])
CALLERS = [PARAMS["callers"], 1].max
# Threads that enqueue share so many connections at most.
CONNECTIONS = 50

def say(line)
  $stdout.write("#{line}\n")
  $stdout.flush
end

def ready
  say("ready")
  $stdin.gets
end

def until_stopped
  $stdin.each_line {}
  exit!(0)
end

# Counts runs, and says when the first one began and the last one ended.
class Noop
  include Sidekiq::Worker

  @lock = Mutex.new
  @started = @handled = 0

  class << self
    def started
      @lock.synchronize { say("first") if (@started += 1) == 1 }
    end

    def handled
      @lock.synchronize { say("handled") if (@handled += 1) == PARAMS["n"] }
    end
  end

  def perform(_payload)
    self.class.started
    self.class.handled
  end
end

def produce
  payload = "x" * PARAMS["payload"]
  lock, left = Mutex.new, PARAMS["n"]
  step = [PARAMS["bulk"], 1].max
  callers = Array.new(CALLERS) do
    Thread.new do
      loop do
        count = lock.synchronize { [step, left].min.tap { |taken| left -= taken } }
        break if count.zero?

        if PARAMS["bulk"].zero?
          Noop.perform_async(payload)
        else
          Sidekiq::Client.push_bulk("class" => Noop, "args" => Array.new(count) { [payload] })
        end
      end
    end
  end
  callers.each(&:value)
end

# Collects the delays of tasks whose payload is when they were sent, in nanoseconds.
class Probe
  include Sidekiq::Worker

  DELAYS = Queue.new

  def self.now
    Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  end

  def perform(sent)
    DELAYS << (Probe.now - sent) / 1000
  end
end

# Sends probes, and other tasks beside them, each at its rate.
def probe
  finish = Probe.now + (PARAMS["seconds"] * 1e9).to_i
  load = Thread.new do
    sent, began = 0, Probe.now
    while PARAMS["load"].positive? && Probe.now < finish
      due = (Probe.now - began) * PARAMS["load"] / 1_000_000_000
      args = Array.new(due - sent) { ["x" * PARAMS["payload"]] }
      Sidekiq::Client.push_bulk("class" => Noop, "args" => args)
      sent = due
      sleep(0.005)
    end
  end
  count, due = 0, Probe.now
  while Probe.now < finish
    Probe.perform_async(Probe.now)
    count += 1
    due += 1_000_000_000 / PARAMS["rate"]
    sleep([(due - Probe.now) / 1e9, 0].max)
  end
  load.value
  4000.times { sleep(0.005) if Probe::DELAYS.size < count }
  say("result #{JSON.generate(quantiles(Array.new(Probe::DELAYS.size) { Probe::DELAYS.pop }.sort))}")
end

def quantiles(delays)
  at = ->(per_mille) { delays[[(delays.size * per_mille / 1000.0).ceil, 1].max - 1] || 0 }
  { count: delays.size, min_us: at[0], p50_us: at[500], p99_us: at[990], max_us: at[1000] }
end

def start
  Sidekiq::Launcher.new(Sidekiq.options).run
end

Sidekiq.logger.level = Logger::FATAL
# The client of Redis would print one for each task.
Redis.silence_deprecations = true
Sidekiq.options[:queues] = ["default"]
Sidekiq.options[:concurrency] = [PARAMS["concurrency"], 1].max
producers = %w[enqueue both latency].include?(WORK) ? [CALLERS + 1, CONNECTIONS].min : 0
Sidekiq.redis = {
  url: "redis://#{PARAMS["redis"]}", size: Sidekiq.options[:concurrency] + 5 + producers, pool_timeout: 60
}
Sidekiq.redis(&:ping)

case WORK
when "enqueue"
  ready
  produce
  say("handled")
when "drain"
  ready
  start
when "both"
  start
  ready
  produce
when "latency"
  start
  ready
  probe
when "idle"
  start
  ready
else
  abort("there is no work called #{WORK}")
end
until_stopped
