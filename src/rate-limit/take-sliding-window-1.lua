--[[ Take events from a sliding-window bucket as its slots allow. Atomic; a refused event leaves no trace.

  A window is cut into 60 slots (each rounded up to a microsecond). The current slot and the 60 before it count, so no
  window ever holds more than the capacity. Source: traffic-policy.md 5.16; the same rule in native/buckets/src/window.rs.

  KEYS[1] bucket     a string: "s1", number of the newest slot (8 bytes, double), sum of the counts (4 bytes), then for
                     every slot that has counts, oldest first, its number modulo 65536 (2 bytes) and its count (4 bytes).
                     20 to 380 bytes. What does not begin so counts as empty and is replaced, whatever its type.
  ARGV[1] capacity   events per window, integer
  ARGV[2] windowMs   window length, milliseconds, above 0
  With these two: one event. Returns an integer: >= 0, admitted, so many remain; < 0, refused, its negative is the
  milliseconds until one may succeed (rounded up).

  Four more make it a lease: permits that count now, for events of the same slot.
  ARGV[3] need       events that wait for the answer
  ARGV[4] want       permits wished for, those included. Beyond the need at most an eighth of what is left is given, so
                     that a bucket near its end is taken from one by one and no holder starves the others.
  ARGV[5] backSlot   slot that unused permits were taken in
  ARGV[6] back       how many of them come back, 0: none
  Returns {permits, remaining, slot, microseconds until this slot ends, milliseconds until one more may succeed (0 when
  the need was met)}.

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

slots = string.sub(slots, first)
local isChanged = clockWasSetBack and taken > 0

-- Permits that come back. Their slot may have left, or a clock set back may have renamed it: then they are lost.
local back = tonumber(ARGV[6]) or 0
local backSlot = tonumber(ARGV[5]) or 0
if back > 0 and not clockWasSetBack and backSlot <= slot and slot - backSlot <= 60 then
  for at = 1, #slots, 6 do
    local number, count = struct.unpack('<I2I4', slots, at)
    if number == backSlot % 65536 then
      back = math.min(back, count)
      local kept = count > back and struct.pack('<I2I4', number, count - back) or ''
      slots = string.sub(slots, 1, at - 1) .. kept .. string.sub(slots, at + 6)
      taken = taken - back
      isChanged = true
      break
    end
  end
end

local asked = tonumber(ARGV[3])
local need = asked or 1
local room = math.max(0, capacity - taken)
local want = math.min(tonumber(ARGV[4]) or 1, math.floor(room / 8))
local given = math.min(room, math.max(need, want))
if given > 0 then
  local last, number, count = #slots - 5, nil, nil
  if last >= 1 then
    number, count = struct.unpack('<I2I4', slots, last)
  end
  if number == slot % 65536 then
    slots = string.sub(slots, 1, last - 1) .. struct.pack('<I2I4', number, count + given)
  else
    slots = slots .. struct.pack('<I2I4', slot % 65536, given)
  end
  taken = taken + given
  isChanged = true
end
if isChanged and slots == '' then
  redis.call('DEL', bucket)
elseif isChanged then
  redis.call('SET', bucket, 's1' .. struct.pack('<dI4', slot, taken) .. slots, 'PX', lifeMs)
end

-- Milliseconds until the slots that fill the bucket have left.
local function retryMs()
  local tooMany = taken - capacity + 1
  if capacity >= 1 then
    for at = 1, #slots, 6 do
      local number, count = struct.unpack('<I2I4', slots, at)
      tooMany = tooMany - count
      if tooMany <= 0 then
        -- A slot counts until it is 61 behind.
        local freeMicros = (slot - (slot - number) % 65536 + 61) * slotMicros
        return math.max(1, math.ceil((freeMicros - nowMicros) / 1000))
      end
    end
  end
  return math.ceil(windowMs)
end

if asked then
  local waitMs = given < need and retryMs() or 0
  return { given, capacity - taken, slot, (slot + 1) * slotMicros - nowMicros, waitMs }
end
if given > 0 then
  return capacity - taken
end
return -retryMs()
