--[[ Take one event from a sliding-window bucket if its slots allow it. Atomic; a refused event leaves no trace.

  A window is cut into 60 slots (each rounded up to a microsecond). The current slot and the 60 before it count, so no
  window ever holds more than the capacity. Source: traffic-policy.md 5.16; the same rule in native/buckets/src/window.rs.

  KEYS[1] bucket     a string: "s1", number of the newest slot (8 bytes, double), sum of the counts (4 bytes), then for
                     every slot that has counts, oldest first, its number modulo 65536 (2 bytes) and its count (4 bytes).
                     20 to 380 bytes. What does not begin so counts as empty and is replaced, whatever its type.
  ARGV[1] capacity   events per window, integer
  ARGV[2] windowMs   window length, milliseconds, above 0
  Returns an integer: >= 0, admitted, so many remain; < 0, refused, its negative is the milliseconds until one may
  succeed (rounded up).
  The key lives as long as its counts matter: 61 slots.
  Clock: redis TIME, never the caller's. Set back, it counts on from the newest slot that it knew; set forward, it lets
  counts go early.
  Work: only slots that have left and the newest one are unpacked, so a busy bucket costs no more than a quiet one. ]]
local bucket, capacity, windowMs = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

local slotMicros = math.max(1, math.ceil(windowMs * 1000 / 60))
local lifeMs = math.ceil(61 * slotMicros / 1000) + 1
local time = redis.call('TIME')
local nowMicros = time[1] * 1000000 + time[2]
local slot = math.floor(nowMicros / slotMicros)

local newest, taken, slots = slot, 0, ''
local state = redis.pcall('GET', bucket)
if type(state) == 'string' and #state >= 20 and #state <= 380 and string.sub(state, 1, 2) == 's1' then
  newest, taken = struct.unpack('<dI4', state, 3)
  slots = string.sub(state, 15)
end

local clockWasSetBack = newest > slot
if clockWasSetBack then
  -- The newest slot it knew becomes the current one: nobody waits longer than a window for a clock.
  local moved = {}
  for at = 1, #slots, 6 do
    local number, count = struct.unpack('<I2I4', slots, at)
    moved[#moved + 1] = struct.pack('<I2I4', (number - newest + slot) % 65536, count)
  end
  slots = table.concat(moved)
  newest = slot
end

-- Slots that have left: more than 60 behind the current one.
local first = 1
while first <= #slots do
  local number, count = struct.unpack('<I2I4', slots, first)
  if (newest - number) % 65536 + slot - newest <= 60 then
    break
  end
  taken = taken - count
  first = first + 6
end

local function write(sum, counts)
  redis.call('SET', bucket, 's1' .. struct.pack('<dI4', slot, sum) .. counts, 'PX', lifeMs)
end

if taken < capacity then
  local last, number, count = #slots - 5, nil, nil
  if last >= first then
    number, count = struct.unpack('<I2I4', slots, last)
  end
  if number == slot % 65536 then
    write(taken + 1, string.sub(slots, first, last - 1) .. struct.pack('<I2I4', number, count + 1))
  else
    write(taken + 1, string.sub(slots, first) .. struct.pack('<I2I4', slot % 65536, 1))
  end
  return capacity - taken - 1
end

if clockWasSetBack and taken > 0 then
  write(taken, string.sub(slots, first))
end
local tooMany = taken - capacity + 1
if capacity >= 1 then
  for at = first, #slots, 6 do
    local number, count = struct.unpack('<I2I4', slots, at)
    tooMany = tooMany - count
    if tooMany <= 0 then
      -- A slot counts until it is 61 behind.
      local freeMicros = (newest - (newest - number) % 65536 + 61) * slotMicros
      return -math.max(1, math.ceil((freeMicros - nowMicros) / 1000))
    end
  end
end
return -math.ceil(windowMs)
