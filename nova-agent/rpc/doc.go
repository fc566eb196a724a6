// Package rpc speaks oslo.messaging's RPC over RabbitMQ (AMQP 0-9-1) as
// oslo.messaging 14 and later do it. It carries messages and knows no Nova.
//
// Start reading at Bus (client) and Server.
package rpc
