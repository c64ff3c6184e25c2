terraform {
  required_providers {
    hcloud = { source = "hetznercloud/hcloud" }
  }
}

variable "name" { type = string }
variable "token" { type = string }
variable "owner" { type = string }
variable "public_key" { type = string }
variable "host_key" {
  type      = string
  sensitive = true
}

locals {
  boot = {
    ssh_keys       = { ed25519_private = var.host_key }
    users          = [{ name = "automl", shell = "/bin/bash", ssh_authorized_keys = [var.public_key] }]
    ssh_deletekeys = true
    ssh_pwauth     = false
  }
}

resource "hcloud_server" "machine" {
  name        = "automl-remote-${substr(var.token, 0, 8)}"
  server_type = "ccx33"
  image       = "ubuntu-24.04"
  user_data   = "#cloud-config\n${jsonencode(local.boot)}\n"
  labels = {
    automl-remote-token  = var.token
    automl-remote-owner  = var.owner
    automl-remote-target = var.name
  }
}

output "host" { value = hcloud_server.machine.ipv4_address }
output "user" { value = "automl" }
output "size" { value = hcloud_server.machine.server_type }
