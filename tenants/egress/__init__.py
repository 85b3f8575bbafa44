"""What a tenant's agent may connect to: firewall rules of the tenants' networks, and a proxy for host names."""
