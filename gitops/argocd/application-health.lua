-- Health of an Application within another: that of what it applies. Sync waves of Applications wait for it.
-- What is still missing does not count for Argo CD, so an Application is Healthy only once it has been applied.
local status = obj.status or {}
local health, operation = status.health, status.operationState
if health == nil or health.status == nil then
  return { status = "Progressing", message = "Argo CD has not compared it yet" }
end
if health.status == "Healthy" and operation == nil then
  return { status = "Progressing", message = "Argo CD has not applied it yet" }
end
if health.status == "Healthy" and operation.phase == "Running" then
  return { status = "Progressing", message = operation.message or "" }
end
if health.status == "Healthy" and operation.phase ~= "Succeeded" then
  return { status = "Degraded", message = operation.message or "" }
end
return { status = health.status, message = health.message or "" }
