-- JSON strings: what the text between the quotes means.
local M = {}

local char, find, match, sub = string.char, string.find, string.match, string.sub

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function utf8(code)
  if code < 0x80 then return char(code) end
  local tail = char(0x80 + code % 0x40)
  code = math.floor(code / 0x40)
  if code < 0x20 then return char(0xC0 + code) .. tail end
  tail = char(0x80 + code % 0x40) .. tail
  code = math.floor(code / 0x40)
  if code < 0x10 then return char(0xE0 + code) .. tail end
  return char(0xF0 + math.floor(code / 0x40), 0x80 + code % 0x40) .. tail
end

-- The character of a \u escape whose digits start at i, and the position after it. Two escapes may be one character.
local function character(text, i)
  local code = tonumber(sub(text, i, i + 3), 16)
  local low = code >= 0xD800 and code < 0xDC00 and match(text, "^\\u([dD][c-fC-F]%x%x)", i + 4)
  if not low then return utf8(code), i + 4 end
  return utf8(0x10000 + (code - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00), i + 10
end

-- `text` must be a proper string of JSON without its quotes.
function M.unescape(text)
  local at = find(text, "\\", 1, true)
  if not at then return text end
  local parts, from = {}, 1
  while at do
    parts[#parts + 1] = sub(text, from, at - 1)
    local kind = sub(text, at + 1, at + 1)
    local meant = ESCAPES[kind] or kind
    from = at + 2
    if kind == "u" then meant, from = character(text, from) end
    parts[#parts + 1] = meant
    at = find(text, "\\", from, true)
  end
  parts[#parts + 1] = sub(text, from)
  return table.concat(parts)
end

return M
