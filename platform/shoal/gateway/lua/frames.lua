-- gRPC frames and the few bytes of protobuf the gateway understands: the model's name is field 1, a string, in every
-- message of the Open Inference Protocol that has one. Appending the field once more at the end renames the model,
-- because in proto3 the last value of a scalar field counts.
local M = {}

local byte, sub, char, floor = string.byte, string.sub, string.char, math.floor

M.PREFIX = 5
M.WINDOW = 4096 -- bytes that are looked at together
local WINDOW = M.WINDOW
local LONGEST_TAG = 20 -- a key and a length, each a varint of at most ten bytes

local function length_of(prefix)
  local _, a, b, c, d = byte(prefix, 1, 5)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function prefix_of(flag, length)
  return char(flag, floor(length / 16777216) % 256, floor(length / 65536) % 256, floor(length / 256) % 256, length % 256)
end

-- A varint at position i of s: value, next position. Nil when it is cut off or longer than ten bytes.
local function varint(s, i)
  local value, unit = 0, 1
  for position = i, i + 9 do
    local c = byte(s, position)
    if not c then return nil end
    if c < 128 then return value + c * unit, position + 1 end
    value = value + (c - 128) * unit
    unit = unit * 128
  end
  return nil
end

function M.encode_varint(value)
  local out = ""
  while value >= 128 do
    out = out .. char(value % 128 + 128)
    value = floor(value / 128)
  end
  return out .. char(value)
end

-- A message as gRPC sends it, uncompressed.
function M.frame(message)
  return prefix_of(0, #message) .. message
end

-- Field 1 with this name, to append to a message.
function M.name_field(name)
  return "\10" .. M.encode_varint(#name) .. name
end

local MALFORMED = "the message is not valid protobuf: "

-- The name in the message between 0-based offsets 5 and length of a body that starts with `window`. Name or nil, error.
-- Walks over the top-level fields, so that what is cut off or not protobuf is told here and not by a model server.
local function walk(body, length, window)
  local name
  local base = 0
  local i = M.PREFIX + 1 -- position in the window; the byte at window position i is at offset base + i - 1
  while base + i - 1 < length do
    if #window - i < LONGEST_TAG and base + #window < length then
      base = base + i - 1
      window = body:getBytes(base, math.min(WINDOW, length - base))
      i = 1
    end
    local key, size
    key, i = varint(window, i)
    if not key then return nil, MALFORMED .. "a field is cut off" end
    local field, wire = floor(key / 8), key % 8
    if field == 0 then return nil, MALFORMED .. "there is no field 0" end
    if wire == 2 then
      size, i = varint(window, i)
      if not size or base + i - 1 + size > length then return nil, MALFORMED .. "field " .. field .. " is cut off" end
      if field == 1 then
        name = i + size - 1 <= #window and sub(window, i, i + size - 1) or body:getBytes(base + i - 1, size)
      end
    elseif wire == 0 then
      local value
      value, i = varint(window, i)
      if not value then return nil, MALFORMED .. "field " .. field .. " is cut off" end
      size = 0
    elseif wire == 1 then
      size = 8
    elseif wire == 5 then
      size = 4
    else
      return nil, MALFORMED .. "field " .. field .. " has wire type " .. wire
    end
    i = i + size
    if base + i - 1 > length then return nil, MALFORMED .. "field " .. field .. " is cut off" end
    if i > #window + 1 then
      base = base + i - 1
      window = body:getBytes(base, math.min(WINDOW, length - base))
      i = 1
    end
  end
  return name
end

-- The model's name in the body of a unary call: name or nil, error. `window`: how the body starts, up to WINDOW bytes.
function M.read_name(body, length, window)
  if length < M.PREFIX then return nil, "the request has no message" end
  if byte(window, 1) ~= 0 then return nil, "the message is compressed but there is no grpc-encoding header" end
  local size = length_of(window)
  if size > length - M.PREFIX then return nil, "the message is cut off" end
  if size < length - M.PREFIX then return nil, "the request has more than one message" end
  return walk(body, length, window)
end

-- The body of a unary call with the model renamed.
function M.rename(body, name)
  local field = M.name_field(name)
  return prefix_of(0, #body - M.PREFIX + #field) .. sub(body, M.PREFIX + 1) .. field
end

-- A renamer for streams: call it with every chunk of the body, in order; it returns the chunk to send on.
-- Frames may be cut anywhere. Compressed frames are left alone; without a grpc-encoding header servers refuse them.
function M.renamer(name)
  local field = M.name_field(name)
  local prefix, left, open = "", 0, false -- bytes of a prefix so far; bytes to come of the message; a message is open
  local suffix = ""
  return function(chunk)
    local out, i = {}, 1
    while true do
      if open and left == 0 then
        out[#out + 1] = suffix
        open = false
      end
      if i > #chunk then break end
      if open then
        local part = sub(chunk, i, i + left - 1)
        out[#out + 1] = part
        left = left - #part
        i = i + #part
      else
        local part = sub(chunk, i, i + M.PREFIX - #prefix - 1)
        prefix = prefix .. part
        i = i + #part
        if #prefix == M.PREFIX then
          local flag = byte(prefix, 1)
          left = length_of(prefix)
          suffix = flag == 0 and field or ""
          out[#out + 1] = prefix_of(flag, left + #suffix)
          prefix, open = "", true
        end
      end
    end
    return table.concat(out)
  end
end

return M
