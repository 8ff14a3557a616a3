-- Marks answers of a copy's REST endpoint that do not count. There a status alone does not tell whether to try again:
-- the activator's is final (it marks its answers), a copy's may mean that it lost the model or is going.
local AGAIN = { ["404"] = true, ["503"] = true }

function envoy_on_response(handle)
  local headers = handle:headers()
  if AGAIN[headers:get(":status")] and not headers:get("x-shoal-served") then headers:replace("x-shoal-again", "1") end
end
