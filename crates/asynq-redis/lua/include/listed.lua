-- include: the tasks of a container with their data, for inspectors. Needs aside.lua. Reads only.

-- Appends nine values for each entry of a flat list (id, score, ...; the score is '' in a list) to a reply: id, score
-- in s, kind, msg, result, lease in s, progress, pending_since in ns or else the token of the take, digest of the message;
-- '' where there is none.
-- Kinds: n no key, h not a hash, m no message, '' usable. Ends before the entry with which messages, results and
-- progress exceed `most` bytes, the first excepted. Returns the number of entries that were appended.
local function read_tasks(reply, prefix, lease_key, entries, most, with_digest)
  local bytes, n = 0, #reply
  for i = 1, #entries, 2 do
    local id, score = entries[i], entries[i + 1]
    local key = prefix .. 't:' .. id
    local task = redis.pcall('HMGET', key, 'msg', 'result', 'x:progress', 'pending_since', 'x:take')
    local kind, msg, result, lease, progress, since, digest = '', '', '', '', '', '', ''
    if task.err or not task[1] then
      kind, since = damage(key), not task.err and (task[4] or task[5]) or ''
    else
      msg, result, progress, since = task[1], task[2] or '', task[3] or '', task[4] or task[5] or ''
      lease = score == '' and redis.pcall('ZSCORE', lease_key, id) or ''
      lease = type(lease) == 'string' and lease or ''
      digest = with_digest and redis.sha1hex(msg) or ''
    end
    bytes = bytes + #msg + #result + #progress
    if bytes > most and i > 1 then
      return (i - 1) / 2
    end
    reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, score, kind, msg, result
    reply[n + 6], reply[n + 7], reply[n + 8], reply[n + 9] = lease, progress, since, digest
    n = n + 9
  end
  return #entries / 2
end
