-- Health of an Application within another: that of what it applies. Sync waves of Applications wait for it.
-- What is still missing does not count for Argo CD: an Application is Healthy only when it was compared after it was applied.
local status = obj.status or {}
local health, operation = status.health, status.operationState
if health == nil or health.status == nil then
  return { status = "Progressing", message = "Argo CD has not compared it yet" }
end
if health.status ~= "Healthy" then
  return { status = health.status, message = health.message or "" }
end
if operation == nil then
  return { status = "Progressing", message = "Argo CD has not applied it yet" }
end
if operation.phase == "Running" then
  return { status = "Progressing", message = operation.message or "" }
end
if operation.phase ~= "Succeeded" then
  return { status = "Degraded", message = operation.message or "" }
end
if (status.reconciledAt or "") < (operation.finishedAt or "") then
  return { status = "Progressing", message = "Argo CD has not compared it since it was applied" }
end
return { status = "Healthy", message = health.message or "" }
