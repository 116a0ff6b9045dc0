--[[ Take one event from a sliding-window bucket if its slots allow it. Atomic; a refused event leaves no trace.

  A window is cut into 60 slots (each rounded up to a microsecond). The current slot and the 60 before it count, so no
  window ever holds more than the capacity. Source: traffic-policy.md 5.16; the same rule in native/buckets/src/window.rs.

  KEYS[1] bucket     a string: number of the newest slot (8 bytes, double), then for every slot that has counts, oldest
                     first, its age in slots behind the newest (1 byte) and its count (4 bytes). At most 313 bytes.
                     What is not of this form (another program's value, another type) counts as empty and is replaced.
  ARGV[1] capacity   events per window, integer
  ARGV[2] windowMs   window length, milliseconds, above 0
  Returns an integer: >= 0, admitted, so many remain; < 0, refused, its negative is the milliseconds until one may
  succeed (rounded up).
  The key lives as long as its counts matter: 61 slots.
  Clock: redis TIME, never the caller's. Set back, it counts on from the newest slot that it knew; set forward, it lets
  counts go early. ]]
local bucket, capacity, windowMs = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

local slotMicros = math.max(1, math.ceil(windowMs * 1000 / 60))
local time = redis.call('TIME')
local nowMicros = time[1] * 1000000 + time[2]
local slot = math.floor(nowMicros / slotMicros)

local ages, counts, filled, taken = {}, {}, 0, 0
local clockWasSetBack = false
local state = redis.pcall('GET', bucket)
if type(state) == 'string' and #state >= 13 and #state <= 313 and (#state - 8) % 5 == 0 then
  local newest = struct.unpack('<d', state)
  clockWasSetBack = newest > slot
  -- A clock that was set back: the newest slot it knew is now; nobody waits longer than a window for that.
  local passed = clockWasSetBack and 0 or slot - newest
  for at = 9, #state, 5 do
    local age, count = struct.unpack('<BI4', state, at)
    age = age + passed
    if age <= 60 then
      filled = filled + 1
      ages[filled], counts[filled] = age, count
      taken = taken + count
    end
  end
end

local isAdmitted = taken < capacity
if isAdmitted then
  if filled == 0 or ages[filled] > 0 then
    filled = filled + 1
    ages[filled], counts[filled] = 0, 0
  end
  counts[filled] = counts[filled] + 1
end

if isAdmitted or (clockWasSetBack and filled > 0) then
  local parts = { struct.pack('<d', slot) }
  for i = 1, filled do
    parts[i + 1] = struct.pack('<BI4', ages[i], counts[i])
  end
  redis.call('SET', bucket, table.concat(parts), 'PX', string.format('%d', math.ceil(61 * slotMicros / 1000) + 1))
end

if isAdmitted then
  return capacity - taken - 1
end
if capacity < 1 then
  return -math.ceil(windowMs)
end
local tooMany = taken - capacity + 1
for i = 1, filled do
  tooMany = tooMany - counts[i]
  if tooMany <= 0 then
    -- A slot counts until it is 61 behind.
    local freeMicros = (slot - ages[i] + 61) * slotMicros
    return -math.max(1, math.ceil((freeMicros - nowMicros) / 1000))
  end
end
return -math.ceil(windowMs)
