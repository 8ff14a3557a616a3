-- Picks the cluster of a request: the route it is meant for if gateways have one, otherwise the activator.
function envoy_on_route(handle)
  local cluster = handle:headers():get("x-shoal-route")
  if not cluster then return "shoal:activator-grpc" end
  if handle:getCluster(cluster) then return cluster end
  if string.find(cluster, "^http:") or string.find(cluster, "^http%-revision:") then return "shoal:activator-http" end
  return "shoal:activator-grpc"
end
