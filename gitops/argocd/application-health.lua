-- Health of an Application within another: that of what it applies. Sync waves of Applications wait for it.
local health = (obj.status or {}).health
if health == nil or health.status == nil then
  return { status = "Progressing", message = "Argo CD has not compared it yet" }
end
return { status = health.status, message = health.message or "" }
