-- Picks the cluster of a request: the route it is meant for if gateways have one, otherwise the activator.
function envoy_on_route(handle)
  local cluster = handle:headers():get("x-shoal-route")
  if not cluster then return "shoal:activator-grpc" end
  if handle:getCluster(cluster) then return cluster end
  local kind, name = string.match(cluster, "^(.*):(.*)$")
  local http = kind and string.find(kind, "^http") and true
  if kind == "stable" or kind == "http-stable" then
    -- Any copy will do unless some are a rollout's; then the activator, which has the active revision answer.
    local plain, canary = http and "http:" .. name or name, (http and "http-canary:" or "canary:") .. name
    if not handle:getCluster(canary) and handle:getCluster(plain) then return plain end
  end
  return http and "shoal:activator-http" or "shoal:activator-grpc"
end
