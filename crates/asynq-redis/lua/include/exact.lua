-- include: times with a fraction of a second. The wire format has whole seconds, and a field of ours has the
-- exact time.

-- The score of a time that was sent as `<s>` or `<s>:<ms>`, and its Unix milliseconds or nil.
local function time_sent(text)
  local score, exact = string.match(text, '^(%-?%d+):(%d+)$')
  return score or text, exact
end
